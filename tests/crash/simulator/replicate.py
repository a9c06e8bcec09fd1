"""A provider that speaks as Replicate does: the product's own adapter buys there.

It knows no id of ours: a lost answer is searched for in a list with times, pages and other people's entries, whose
clock may be off. It calls back, signed: once, twice, late, never, or also at another attempt's address. What becomes
of a create is drawn, as its input is that of a real model; for which attempt it was, the callback address says, which
nobody but the audit reads here.
"""

import asyncio
import contextlib
import itertools
import time
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from app.webhooks.signing import headers
from tests.crash.simulator import wire
from tests.crash.simulator.books import CANCELED, DONE, FAILED, RUNNING, Books, Purchase, attempt_in
from tests.crash.simulator.own import BOOKS, answer, not_accepted
from tests.crash.troubles import ANSWER_SHARE, ANSWERS, OTHERS_SHARE
from tests.providers.replicate_gateway import SECRET, TOKEN

PROVIDER: Final = "replicate"
PAGE: Final = 15
STATUS: Final = {RUNNING: "processing", DONE: "succeeded", FAILED: "failed", CANCELED: "canceled"}
LATE_SECONDS: Final = 6.0
"""After the end, for a callback that is late."""
CALL_SECONDS: Final = 5.0
NEIGHBOURS: Final = 12
"""Addresses given last, one of which gets what belongs to another."""
HISTORY: Final = "predictions of other people"


class Replicate:
    """Its API."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._draw = books.draw
        self._tasks = set[asyncio.Task[None]]()
        self._garbled = itertools.count()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/models/{owner}/{name}/predictions", self.create),
            web.get("/v1/predictions", self.list_predictions),
            web.get("/v1/predictions/{id}", self.get),
            web.post("/v1/predictions/{id}/cancel", self.cancel),
            web.get("/v1/webhooks/default/secret", self.secret),
            web.get("/files/{id}/0.png", self.file),
        ]

    async def create(self, request: web.Request) -> web.StreamResponse:
        self._books.calls["create"] += 1
        body: dict[str, Any] = await request.json()
        url = body.get("webhook", "")
        if url:
            self._books.addresses.append(url)
        self._somebody_elses(body["input"])
        fate = self._draw.fate()
        response = not_accepted(request, fate.mode)
        if response is not None:
            return response
        if fate.mode == "slow":
            await asyncio.sleep(fate.accept_after)
        given = {**body["input"], "model": f"{request.match_info['owner']}/{request.match_info['name']}"}
        bought = self._books.buy(
            PROVIDER,
            attempt_id=attempt_in(url),
            media=body["input"].get("prompt", ""),
            fate=fate,
            given=given,
            callback_url=url,
        )
        self._spawn(self._call_back(bought, self._origin(request)))
        told = wire.as_json(self._prediction(bought, self._origin(request)))
        return await answer(request, fate.mode, told, nth=next(self._garbled))

    def _somebody_elses(self, given: dict[str, Any]) -> None:
        """Now and then others buy at the same time: with our very input on the web site, with their own by the API."""
        if self._draw.among(("others_entries",), OTHERS_SHARE):
            source = self._draw.choice(["web", "api"])
            theirs = {**given, "model": "black-forest-labs/flux-schnell"}
            if source == "api":
                theirs["prompt"] = f"{HISTORY}: {len(self._books.purchases)}"
            fate = self._draw.fate()
            self._books.buy(PROVIDER, attempt_id=None, media=theirs["prompt"], fate=fate, given=theirs, source=source)

    async def get(self, request: web.Request) -> web.StreamResponse:
        self._books.calls["get"] += 1
        bought = self._books.purchases.get(request.match_info["id"])
        if bought is None or bought.provider != PROVIDER:
            return wire.refused(404, "Not found")
        return self._answered(request, self._prediction(bought, self._origin(request)))

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        self._books.calls["cancel prediction"] += 1
        bought = self._books.purchases.get(request.match_info["id"])
        if bought is None:
            return wire.refused(404, "Not found")
        if bought.state == RUNNING:
            bought.canceled = True
        return self._answered(request, self._prediction(bought, self._origin(request)))

    async def list_predictions(self, request: web.Request) -> web.StreamResponse:
        self._books.calls["list"] += 1
        query = request.query
        after, before = (_at(query.get(name)) for name in ("created_after", "created_before"))
        found = sorted(self._books.of(PROVIDER), key=lambda one: one.bought_at, reverse=True)
        within = [
            one
            for one in found
            if (after is None or after <= self._created(one)) and (before is None or self._created(one) < before)
        ]
        if "cursor" in query:
            # By what was last seen: the list grows at its beginning meanwhile.
            within = [one for one in within if one.id < query["cursor"]]
        page = within[:PAGE]
        origin = self._origin(request)
        more = None
        if len(within) > PAGE:
            more = f"{origin}/v1/predictions?{urlencode({**query, 'cursor': page[-1].id})}"
        results = [self._prediction(one, origin) for one in page]
        return self._answered(request, {"previous": None, "next": more, "results": results})

    async def secret(self, _request: web.Request) -> web.Response:
        return web.json_response({"key": SECRET})

    async def file(self, request: web.Request) -> web.StreamResponse:
        self._books.calls["file"] += 1
        bought = self._books.purchases.get(request.match_info["id"])
        if bought is None or bought.state != DONE:
            return wire.refused(404, "no such output")
        return await wire.deliver(request, bought)

    @web.middleware
    async def as_replicate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Keys are asked for, and the time is the provider's own."""
        if not request.path.startswith("/v1/"):
            return await handler(request)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return wire.refused(401, "You did not pass a valid authentication token")
        response = await handler(request)
        now = datetime.fromtimestamp(time.time() + self._books.clock_offset, UTC)
        response.headers["Date"] = now.strftime("%a, %d %b %Y %H:%M:%S GMT")
        return response

    def _answered(self, request: web.Request, found: dict[str, Any]) -> web.Response:
        """An answer that costs nothing, with its trouble."""
        trouble = self._draw.among(ANSWERS, ANSWER_SHARE)
        if trouble == "answers_503":
            return wire.refused(503, "nobody is here")
        if trouble == "answers_garbage":
            return wire.garbage(next(self._garbled))
        response = web.Response(body=wire.as_json(found), content_type="application/json")
        if trouble == "answers_twice":
            wire.say_again(request, response, after=self._draw.uniform(0.005, 0.5))
        return response

    def _created(self, bought: Purchase) -> datetime:
        return datetime.fromtimestamp(bought.bought_at + self._books.clock_offset, UTC)

    def _prediction(self, bought: Purchase, origin: str) -> dict[str, Any]:
        base = f"{origin}/v1/predictions/{bought.id}"
        state = bought.state
        given = {name: value for name, value in bought.given.items() if name != "model"}
        return {
            "id": bought.id,
            "model": bought.given["model"],
            "version": "hidden",
            "input": given,
            "output": [f"{origin}/files/{bought.id}/0.png"] if state == DONE else None,
            "logs": "",
            "error": "it failed, as drawn" if state == FAILED else None,
            "status": STATUS[state],
            "created_at": self._created(bought).isoformat().replace("+00:00", "Z"),
            "data_removed": False,
            "source": bought.source,
            "metrics": {"predict_time": 1.25} if state == DONE else {},
            "urls": {"get": base, "cancel": f"{base}/cancel"},
        }

    def _origin(self, request: web.Request) -> str:
        return f"http://{request.host}"

    async def _call_back(self, bought: Purchase, origin: str) -> None:
        fate = bought.fate
        if not bought.callback_url or fate.callback == "callback_lost":
            return
        await asyncio.sleep(fate.delay + 0.01 + (LATE_SECONDS if fate.callback == "callback_late" else 0))
        body = wire.as_json(self._prediction(bought, origin))
        if fate.callback == "callback_replayed":
            others = [one for one in self._books.addresses[-NEIGHBOURS:] if one != bought.callback_url]
            if others:
                await self._call(self._draw.choice(others), bought, body)
        times = 2 if fate.callback == "callback_twice" else 1
        for _ in range(times):
            status = await self._call(bought.callback_url, bought, body)
            bought.told.append(status)
            if bought.told_at is None and 200 <= status < 300:
                bought.told_at = time.time()

    async def _call(self, url: str, bought: Purchase, body: bytes) -> int:
        signed = headers([SECRET], f"msg_{bought.id}", int(time.time() + self._books.clock_offset), body)
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS)
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with (
                aiohttp.ClientSession(timeout=timeout) as client,
                client.post(url, data=body, headers=signed) as got,
            ):
                return got.status
        return 0

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _at(given: str | None) -> datetime | None:
    return None if given is None else datetime.fromisoformat(given)


def install(app: web.Application) -> None:
    """Let it answer beside others."""
    made = Replicate(app[BOOKS])
    app.middlewares.append(made.as_replicate)
    app.add_routes(made.routes())
