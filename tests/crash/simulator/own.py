"""A provider of our own protocol: `sim` and `blind` buy there. How a submission is treated stands in its input:

- `mode`: `ok`; `refused` (costs nothing); `busy` (the first `busy_times` get a 429 and cost nothing), `long_wait` (the
  first gets one with a Retry-After beyond every window); `slow` (taken and answered only after `accept_after` seconds,
  whether or not the caller still waits); `accept_then_drop`, `_500`, `_503`, `_garbage`, `_silence` (taken, but the
  answer is lost); `not_accepted_503`, `not_accepted_drop` (the first time: never taken, and the answer does not say
  so); `fail_late` (taken, and fails);
- `delay`: seconds until there is a result; `size`: bytes of it; `output`, `output_times`: how it arrives at first;
- `findable`: whether the provider can say later what became of the submission; `stoppable`: whether it can be canceled.
"""

import asyncio
from typing import Any, Final

from aiohttp import web

from tests.crash.simulator import wire
from tests.crash.simulator.books import DONE, RUNNING, Books
from tests.crash.troubles import LONG_WAIT, TIME_SCALE, Fate

BOOKS: Final = web.AppKey("books", Books)
PROVIDER: Final = "sim"


def routes() -> list[web.RouteDef]:
    return [
        web.post("/submit", submit),
        web.get("/poll/{id}", poll),
        web.post("/find", find),
        web.post("/cancel/{id}", cancel),
        web.get("/output/{id}", output),
    ]


async def submit(request: web.Request) -> web.StreamResponse:
    books = request.app[BOOKS]
    order: dict[str, Any] = await request.json()
    plan, media = order["input"], order["media"]
    books.calls["submit"] += 1
    fate = Fate.planned(plan)
    refused = _not_taken(books, request, fate, plan, media)
    if refused is not None:
        return refused
    if fate.mode == "slow":
        await asyncio.sleep(fate.accept_after)
    bought = books.buy(
        PROVIDER,
        attempt_id=order["attempt_id"],
        media=media,
        fate=fate,
        given=plan,
        stoppable=plan["stoppable"],
    )
    return await answer(request, fate.mode, wire.as_json({"id": bought.id}), nth=len(books.purchases))


def _not_taken(
    books: Books, request: web.Request, fate: Fate, plan: dict[str, Any], media: str
) -> web.StreamResponse | None:
    """The answer to what costs nothing; None: it is taken."""
    if fate.mode == "refused":
        return web.json_response({"error": "not with me"}, status=422)
    times = plan["busy_times"] if fate.mode == "busy" else 1
    if books.refused[media] >= times:
        return None
    response = not_accepted(request, fate.mode)
    if response is not None:
        books.refused[media] += 1
    return response


def not_accepted(request: web.Request, mode: str) -> web.Response | None:
    """The answer to a submission that is not taken; None: with this mode it is."""
    match mode:
        case "busy":
            return wire.refused(429, "busy", retry_after=1)
        case "long_wait":
            return wire.refused(429, "come back much later", retry_after=LONG_WAIT * TIME_SCALE)
        case "not_accepted_503":
            return wire.refused(503, "nobody is here")
        case "not_accepted_drop":
            return wire.broken_off(request)
    return None


async def answer(request: web.Request, mode: str, body: bytes, *, nth: int) -> web.Response:
    """What the caller hears of a submission that was taken."""
    match mode:
        case "accept_then_drop":
            return wire.broken_off(request)
        case "accept_then_500":
            return wire.refused(500, "out of order")
        case "accept_then_503":
            return wire.refused(503, "the gateway gave up waiting")
        case "accept_then_garbage":
            return wire.garbage(nth, 201)
        case "accept_then_silence":
            await asyncio.sleep(wire.SILENCE_SECONDS)
    return web.Response(body=body, status=201, content_type="application/json")


async def poll(request: web.Request) -> web.Response:
    books = request.app[BOOKS]
    books.calls["poll"] += 1
    bought = books.purchases.get(request.match_info["id"])
    if bought is None:
        return web.json_response({"error": "no such purchase"}, status=404)
    return web.json_response({"id": bought.id, "state": bought.state})


async def find(request: web.Request) -> web.Response:
    """Look an attempt up; a plan may say that the provider cannot tell."""
    books = request.app[BOOKS]
    books.calls["find"] += 1
    order: dict[str, Any] = await request.json()
    if not order["input"]["findable"]:
        return web.json_response({"error": "nobody can say"}, status=409)
    found = [one.id for one in books.of(PROVIDER) if one.attempt_id == order["attempt_id"]]
    return web.json_response({"id": found[0] if found else None})


async def cancel(request: web.Request) -> web.Response:
    books = request.app[BOOKS]
    books.calls["cancel"] += 1
    bought = books.purchases[request.match_info["id"]]
    if bought.state == RUNNING and bought.stoppable:
        bought.canceled = True
    return web.json_response({"id": bought.id, "state": bought.state})


async def output(request: web.Request) -> web.StreamResponse:
    books = request.app[BOOKS]
    books.calls["output"] += 1
    bought = books.purchases.get(request.match_info["id"])
    if bought is None or bought.state != DONE:
        return web.json_response({"error": "no such output"}, status=404)
    return await wire.deliver(request, bought)
