"""Routes: the next target is tried only after an outcome that provably cost nothing, and nothing is lost on the way."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import httpx2
import pytest

from app.core.ids import new_id
from app.jobs.callbacks import signing_keys
from app.jobs.scheduling import pauses, provider_circuits
from app.jobs.transitions import release, reroute
from app.jobs.transitions.attempt import Intent, Purchase, intend, record_purchases
from app.jobs.transitions.base import Lease
from app.jobs.transitions.request import request
from app.jobs.transitions.reroute import Reroute
from app.jobs.worker import leases
from app.main import create_app
from app.media_generator.catalogue import Catalogue
from app.media_generator.dummy_media_generator.provider import FAULTY, DummyMediaGeneratorModel
from app.media_generator.errors import (
    AnswerLostError,
    BusyError,
    CreditError,
    GenerationFailedError,
    InputRefusedError,
    ModelGoneError,
    NotReachedError,
    UnauthorizedError,
)
from app.media_generator.media_generator_model import Failed
from app.media_generator.model_card import ModelStatus, Price
from app.media_generator.registry import Registry
from app.media_generator.routes import Route, Target
from app.runtime import open_runtime
from app.worker import build_runner
from tests.support import PUBLIC_URL, Client, attempts_of, claim, eventually, new_media

GREY = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "size": {"type": "integer", "minimum": 1000, "default": 5000},
        "quality": {"enum": ["low", "high"]},
        "steps": {"type": "integer"},
    },
}
OTHER = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"bytes": {"type": "integer", "maximum": 50_000}, "quality": {"type": "string"}, "seed": {}},
}
FIRST = Target("first/grey")
SECOND = Target("second/grey", rename={"size": "bytes"}, constant={"quality": "best"}, default={"seed": 7})
ROUTE = Route("route/portrait", (FIRST, SECOND))
QUICK = {"retry_base_seconds": 0.02, "retry_max_seconds": 0.02}


class Shop(DummyMediaGeneratorModel):
    """Sells grey pictures, or raises what it is told to; remembers what was asked of it."""

    def __init__(self, name, schema=GREY, refusal=None, **changes):
        super().__init__()
        self.name = name
        self.card = replace(FAULTY, name="grey", input_schema=schema, example={}, **changes)
        self.refusal = refusal
        self.failure = None
        self.asked = []

    def models(self):
        return (self.card,)

    async def submit(self, submission):
        self.asked.append(dict(submission.input))
        if self.refusal is not None:
            raise self.refusal
        return await super().submit(replace(submission, model=FAULTY.name, input={}))

    async def find(self, submission, since):
        raise NotReachedError("cannot say")

    async def poll(self, reference):
        return await super().poll(reference) if self.failure is None else Failed(self.failure)


def registry_of(*shops, route=ROUTE):
    return Registry(shops, catalogue=Catalogue(routes=[route]))


@pytest.fixture
async def product_of(settings, bell, working):
    """The API with a worker, selling what it is given."""
    stack = []

    async def start(*shops, route=ROUTE, work=True, **changes):
        registry = registry_of(*shops, route=route)
        app = create_app(settings, bell, registry)
        lifespan = app.router.lifespan_context(app)
        await lifespan.__aenter__()
        api = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=PUBLIC_URL)
        stack.append((api, lifespan))
        if work:
            await working(registry, **changes)
        return Client(api)

    yield start
    for api, lifespan in stack:
        await api.aclose()
        await lifespan.__aexit__(None, None, None)


@pytest.fixture
async def working(settings, bell):
    """Starts workers with a registry."""
    stack = []

    async def start(registry, **changes):
        opened = open_runtime(settings.model_copy(update={"lease_seconds": 1.2, **changes}), registry)
        runner = bell.runner = build_runner(await opened.__aenter__())
        await runner.start()
        stack.append((runner, opened))

    yield start
    for runner, opened in stack:
        await runner.stop()
        await opened.__aexit__(None, None, None)


async def history_of(client, media):
    items = (await client.api.get(f"/media/{media['id']}/history")).json()["items"]
    return [item["event"] for item in items], [item["detail"] for item in items if item["event"] == "rerouted"]


async def ask(client, **given):
    return await client.generate(model="route/portrait", input=given)


async def test_a_route_is_asked_for_like_a_model_and_its_first_target_makes_it(product_of):
    first, second = Shop("first"), Shop("second", OTHER)
    client = await product_of(first, second)

    asked = await ask(client, quality="high")
    done = await client.until(asked)

    assert (asked["model"], asked["route"], done["route"]) == ("first/grey", "route/portrait", "route/portrait")
    assert done["status"] == "COMPLETED"
    assert (first.asked, second.asked) == ([{"size": 5000, "quality": "high"}], [])


@pytest.mark.parametrize(
    "refusal",
    [ModelGoneError("404"), UnauthorizedError("401"), CreditError("402"), InputRefusedError("400")],
    ids=lambda refusal: refusal.code,
)
async def test_what_was_refused_goes_on_to_the_next_target_with_its_own_input(product_of, refusal):
    first, second = Shop("first", refusal=refusal), Shop("second", OTHER)
    client = await product_of(first, second)

    done = await client.until(await ask(client, size=2000, quality="high", steps=3))

    events, details = await history_of(client, done)
    tries = await attempts_of(client, done)
    assert (done["status"], done["model"], done["error"]) == ("COMPLETED", "second/grey", None)
    assert done["input"] == {"bytes": 2000, "quality": "best", "seed": 7}
    assert second.asked == [done["input"]]
    assert [(one["model"], one["status"], one["sent"]) for one in tries] == [
        ("first/grey", "FAILED", "NO"),
        ("second/grey", "SUCCEEDED", None),
    ]
    assert events == ["requested", "claimed", "rerouted", "claimed", "completed"]
    assert details == [
        {
            "code": refusal.code,
            "message": refusal.message,
            "was": "first/grey",
            "model": "second/grey",
            "route": "route/portrait",
        }
    ]


async def test_retries_are_used_up_before_the_next_target_and_it_has_its_own(product_of):
    first, second = Shop("first", refusal=BusyError("429")), Shop("second", OTHER, refusal=BusyError("429"))
    client = await product_of(first, second, max_tries=3, **QUICK)

    over = await client.until(await ask(client))

    events, _ = await history_of(client, over)
    assert (over["status"], over["error"]["code"], over["number_of_tries"]) == ("ERROR", "provider_busy", 6)
    assert (len(first.asked), len(second.asked)) == (3, 3)
    assert events.count("rerouted") == 1


@pytest.mark.parametrize("lost", [AnswerLostError("cut off"), TimeoutError()], ids=["lost", "time-out"])
async def test_a_lost_answer_never_leads_to_the_next_target(product_of, lost):
    first, second = Shop("first", refusal=lost), Shop("second", OTHER)
    client = await product_of(first, second)

    over = await client.until(await ask(client))

    assert (over["status"], over["error"]["code"], over["model"]) == ("ERROR", "outcome_unknown", "first/grey")
    assert second.asked == []


async def test_a_failure_after_the_purchase_never_leads_to_the_next_target(product_of):
    first, second = Shop("first"), Shop("second", OTHER)
    first.failure = GenerationFailedError("out of memory")
    client = await product_of(first, second)

    over = await client.until(await ask(client))

    assert (over["status"], over["error"]["code"]) == ("ERROR", "generation_failed")
    assert second.asked == []


async def test_what_a_target_sold_all_the_same_is_fetched_there(product_of, db):
    first, second = Shop("first", refusal=CreditError("402")), Shop("second", OTHER)
    second.failure = GenerationFailedError("out of memory")
    client = await product_of(first, second)
    over = await client.until(await ask(client))
    left, _ = await attempts_of(client, over)

    # As a callback of the first one tells, which has taken the money and answered 402.
    fact = {"external_id": "a", "data": {"model": "faulty", "number": 1, "input": {}, "submitted_at": 0}}
    purchase = Purchase(UUID(left["id"]), "a", json.dumps(fact))
    assert await record_purchases.many(db, [purchase]) == [True]

    stored = await eventually(lambda: client.media(over), lambda seen: seen["files"])
    tries = await attempts_of(client, over)
    assert (stored["status"], [one["status"] for one in tries]) == ("ERROR", ["SUCCEEDED", "FAILED"])
    assert (await client.api.post(f"/media/{over['id']}/retry")).status_code == 202
    assert (await client.until(over, "COMPLETED"))["number_of_tries"] == 2


class Department(Shop):
    """Sells under two names, each with a price of its own, and nothing under the first, as it says."""

    def __init__(self):
        super().__init__("first")
        self.cards = [
            replace(self.card, price=Price(Decimal(2))),
            replace(self.card, name="black", price=Price(Decimal(1))),
        ]

    def models(self):
        return self.cards

    async def submit(self, submission):
        if submission.model == "grey":
            raise ModelGoneError("404")
        return await super().submit(submission)


@pytest.mark.parametrize("before_the_end", [True, False])
async def test_what_was_bought_of_an_earlier_target_has_its_price(product_of, db, before_the_end):
    shop = Department()
    shop.failure = BusyError("429") if before_the_end else GenerationFailedError("out of memory")
    shop.refusal = shop.failure if before_the_end else None
    both = Route("route/portrait", (FIRST, Target("first/black")))
    client = await product_of(shop, route=both, retry_base_seconds=3600, retry_max_seconds=3600)
    media = await ask(client)
    status = "IN_QUEUE" if before_the_end else "ERROR"
    await eventually(lambda: client.media(media), lambda m: (m["status"], m["number_of_tries"]) == (status, 2))
    (bought, _), shop.failure = await attempts_of(client, media), None

    fact = {"external_id": "a", "data": {"model": "faulty", "number": 1, "input": {}, "submitted_at": 0}}
    assert await record_purchases.many(db, [Purchase(UUID(bought["id"]), "a", json.dumps(fact))]) == [True]
    await signing_keys.hasten(db, UUID(bought["id"]))

    await eventually(lambda: client.media(media), lambda seen: seen["files"])
    first, second = await attempts_of(client, media)
    assert (first["status"], first["model"], Decimal(first["cost"])) == ("SUCCEEDED", "first/grey", 2)
    assert (second["status"], second["cost"]) == ("FAILED", None)


async def test_after_the_last_target_it_is_an_error(product_of):
    shops = Shop("first", refusal=CreditError("402")), Shop("second", OTHER, refusal=InputRefusedError("no"))
    client = await product_of(*shops)

    over = await client.until(await ask(client))

    assert (over["status"], over["error"]["code"], over["model"]) == ("ERROR", "input_refused", "second/grey")


async def test_a_request_passes_over_targets_that_are_closed_retired_or_do_not_fit(product_of, db):
    client = await product_of(Shop("first"), Shop("second", OTHER), work=False)
    before = await ask(client)
    too_large = await ask(client, size=60_000)

    await provider_circuits.trip(db, "first", CreditError("402"), pause=timedelta(minutes=5))
    after = await eventually(lambda: ask(client), lambda media: media["model"] == "second/grey")
    waits = await ask(client, size=60_000)

    retired = await product_of(Shop("first", status=ModelStatus.RETIRED), Shop("second", OTHER), work=False)
    assert [media["model"] for media in (before, too_large, waits)] == ["first/grey"] * 3
    assert after["input"] == {"quality": "best", "seed": 7}
    assert (await ask(retired))["model"] == "second/grey"


async def test_what_waits_for_a_closed_provider_is_moved_to_an_open_target(product_of, db, working):
    first, second = Shop("first"), Shop("second", OTHER)
    client = await product_of(first, second, work=False)
    media = [await ask(client) for _ in range(3)]
    fits_only_there = await ask(client, size=60_000)
    plain = await client.generate(model="first/grey")
    await pauses.pause(db, "first/grey", "by hand", lambda _moved: None)

    await working(registry_of(first, second))
    done = [await client.until(one) for one in media]

    assert {(one["status"], one["model"]) for one in done} == {("COMPLETED", "second/grey")}
    assert first.asked == []
    for one in (fits_only_there, plain):
        seen = await client.media(one)
        assert (seen["status"], seen["model"]) == ("IN_QUEUE", "first/grey")


async def test_a_target_that_no_worker_has_is_passed_over(product_of, working):
    client = await product_of(Shop("first"), Shop("second", OTHER), work=False)
    media = await ask(client)
    second = Shop("second", OTHER)

    # This worker's route has the target still, but nobody here sells it.
    registry = registry_of(Shop("first"), second)
    del registry._offers["first/grey"]
    await working(registry, max_tries=1)

    done = await client.until(media)
    assert (done["status"], done["model"], done["number_of_tries"]) == ("COMPLETED", "second/grey", 1)


async def test_a_route_is_shown_with_its_targets_and_its_first_targets_schema(product_of):
    client = await product_of(Shop("first"), Shop("second", OTHER), work=False)

    shown = (await client.api.get("/models/route/portrait")).json()
    listed = (await client.api.get("/models", params={"provider": "route"})).json()["items"]

    assert listed == [shown]
    assert (shown["targets"], shown["input_schema"]) == (["first/grey", "second/grey"], GREY)
    assert shown["capabilities"] is None


async def test_a_route_may_have_a_schema_of_its_own(product_of):
    own = {"type": "object", "additionalProperties": False, "properties": {"weight": {"type": "integer"}}}
    first, second = Shop("first"), Shop("second", OTHER)
    targets = Target("first/grey", rename={"weight": "size"}), Target("second/grey", rename={"weight": "bytes"})
    client = await product_of(first, second, route=Route("route/portrait", targets, input_schema=own), work=False)

    wrong = await client.api.post(
        "/media/generate", json={"prompt": "a", "model": "route/portrait", "input": {"size": 1}}
    )
    light = await client.api.post(
        "/media/generate", json={"prompt": "a", "model": "route/portrait", "input": {"weight": 60}}
    )

    assert wrong.json()["errors"][0]["field"] == "input.size"
    assert (light.json()["model"], light.json()["input"]) == ("second/grey", {"bytes": 60})


async def test_what_fits_no_target_is_refused_with_the_first_ones_reasons(product_of):
    own = {"type": "object", "properties": {"weight": {"type": "integer"}}}
    target = Target("first/grey", rename={"weight": "size"})
    client = await product_of(Shop("first"), route=Route("route/portrait", (target,), input_schema=own), work=False)

    refused = await client.api.post(
        "/media/generate", json={"prompt": "a", "model": "route/portrait", "input": {"weight": 1}}
    )

    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "input.size")


def test_a_route_that_leads_nowhere_or_maps_to_nothing_is_reported():
    nowhere = registry_of(Shop("third"))
    strange = registry_of(Shop("first"), route=Route("route/portrait", (Target("first/grey", constant={"colour": 1}),)))

    assert nowhere.load_errors == {"route/portrait": "no provider offers first/grey, second/grey"}
    assert strange.load_errors == {"route/portrait": "constant: first/grey has no parameter 'colour'"}
    assert nowhere.routes() == strange.routes() == []


async def test_an_estimate_of_a_route_is_that_of_its_target(product_of):
    priced = Shop("first", price=Price(Decimal("0.02")))
    client = await product_of(priced, Shop("second", OTHER), work=False)

    told = (await client.api.post("/media/estimate", json={"prompt": "a", "model": "route/portrait"})).json()

    assert (told["model"], told["amount"]) == ("first/grey", "0.02")


async def begun(db, *, bought=False):
    """A media of the route in a worker's hands, with an open attempt, and how it would go on."""
    worker_id = new_id()
    await leases.register(db, worker_id, "test")
    new = new_media("first/grey", route="route/portrait", route_input="{}")
    await request(db, new)
    (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
    held, attempt_id = Lease(new.id, row.fence), new_id()
    await intend.many(db, [Intent(held, attempt_id, "first/grey", "1", "00")])
    if bought:
        await record_purchases.many(db, [Purchase(attempt_id, "x", '{"external_id": "x"}')])
    error = '{"code": "x", "message": "x"}'
    return Reroute(held, attempt_id, "first/grey", "second/grey", "local", '{"a": 1}', 1, error)


async def test_a_move_is_made_once_and_changes_everything_that_belongs_to_the_model(db):
    move = await begun(db)

    assert await asyncio.gather(*(reroute.reroute.many(db, [move]) for _ in range(4))) in (
        [[True], [False], [False], [False]],
        [[False], [True], [False], [False]],
        [[False], [False], [True], [False]],
        [[False], [False], [False], [True]],
    )
    row = await db.fetchrow("SELECT status, model, provider, queue, input, route_step, worker_id FROM media")
    assert tuple(row) == ("IN_QUEUE", "second/grey", "second", "local", '{"a": 1}', 1, None)


@pytest.mark.parametrize("way", ["bought", "lease lost", "backwards", "paid before"])
async def test_a_move_is_refused_where_money_may_be_spent_or_the_lease_is_lost(db, way):
    move = await begun(db, bought=way == "bought")
    if way == "lease lost":
        move = replace(move, lease=replace(move.lease, fencing_token=move.lease.fencing_token + 1))
    if way == "backwards":
        await db.execute("UPDATE media SET route_step = 1")
    if way == "paid before":
        await db.execute(
            "INSERT INTO attempts (id, media_id, number, status, model, input_hash, sent) "
            "SELECT gen_random_uuid(), id, 9, 'UNKNOWN', model, '00', 'UNKNOWN' FROM media"
        )

    assert await reroute.reroute.many(db, [move]) == [False]
    assert await reroute.reroute_waiting(db, [move]) == [False]
    row = await db.fetchrow("SELECT m.status, m.model, a.status FROM media m JOIN attempts a ON a.number = 1")
    assert tuple(row) == ("PROCESSING", "first/grey", "SUBMITTED" if way == "bought" else "INTENDED")


async def test_what_waits_with_an_open_attempt_is_not_moved(db):
    move = await begun(db)
    await release.hand_back(db, [move.lease], reason="test", delay=timedelta(0))

    assert await reroute.reroute_waiting(db, [replace(move, attempt_id=None)]) == [False]
