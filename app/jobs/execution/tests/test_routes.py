"""Routes: the next target is tried only after an outcome that provably cost nothing."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import httpx2
import pytest

from app.jobs.scheduling import pauses, provider_circuits
from app.jobs.transitions.attempt import PurchaseRecord, record_purchases
from app.jobs.transitions.callback import expedite
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
    UnauthorizedError,
)
from app.media_generator.media_generator_model import Failed
from app.media_generator.model_card import ModelStatus, Price
from app.media_generator.registry import Registry
from app.media_generator.routes import Route, Target
from app.runtime import open_runtime
from app.worker import build_runner
from tests.jobs import dummy_purchase
from tests.support import PUBLIC_URL, Client, attempts_of, eventually

GREY = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "size": {"type": "integer", "minimum": 1000, "default": 5000},
        "quality": {"enum": ["low", "high"]},
        "steps": {"type": "integer"},
    },
}
OTHER_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"bytes": {"type": "integer", "maximum": 50_000}, "quality": {"type": "string"}, "seed": {}},
}
FIRST = Target("first/grey")
SECOND = Target("second/grey", rename={"size": "bytes"}, constant={"quality": "best"}, default={"seed": 7})
ROUTE = Route("route/portrait", (FIRST, SECOND))
SHORT_RETRY_PAUSE = {"retry_base_seconds": 0.02, "retry_max_seconds": 0.02}


class Vendor(DummyMediaGeneratorModel):
    """Offers the model `grey`, or raises what the test says; records the inputs that it is given."""

    def __init__(self, name, schema=GREY, refusal=None, **changes):
        super().__init__()
        self.name = name
        self.card = replace(FAULTY, name="grey", input_schema=schema, example={}, **changes)
        self.refusal = refusal
        self.failure = None
        self.given_inputs = []

    def models(self):
        return (self.card,)

    async def submit(self, submission):
        self.given_inputs.append(dict(submission.input))
        if self.refusal is not None:
            raise self.refusal
        return await super().submit(replace(submission, model=FAULTY.name, input={}))

    async def find(self, submission, since):
        raise AnswerLostError("cannot say")

    async def poll(self, reference):
        return await super().poll(reference) if self.failure is None else Failed(self.failure)


def registry_of(*vendors, route=ROUTE):
    return Registry(vendors, catalogue=Catalogue(routes=[route]))


@pytest.fixture
async def client_of(settings, bell, start_worker):
    """Starts the API, and a worker, with these providers; a client of it."""
    stack = []

    async def start(*vendors, route=ROUTE, work=True, **changes):
        registry = registry_of(*vendors, route=route)
        app = create_app(settings, bell, registry)
        lifespan = app.router.lifespan_context(app)
        await lifespan.__aenter__()
        api = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=PUBLIC_URL)
        stack.append((api, lifespan))
        if work:
            await start_worker(registry, **changes)
        return Client(api)

    yield start
    for api, lifespan in stack:
        await api.aclose()
        await lifespan.__aexit__(None, None, None)


@pytest.fixture
async def start_worker(settings, bell):
    """Starts a worker with a registry."""
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


async def generate(client, **given):
    return await client.generate(model="route/portrait", input=given)


async def test_route_is_requested_like_a_model_and_made_by_its_first_target(client_of):
    first, second = Vendor("first"), Vendor("second", OTHER_SCHEMA)
    client = await client_of(first, second)

    requested = await generate(client, quality="high")
    done = await client.until(requested)

    assert (requested["model"], requested["route"], done["route"]) == ("first/grey", "route/portrait", "route/portrait")
    assert done["status"] == "COMPLETED"
    assert (first.given_inputs, second.given_inputs) == ([{"size": 5000, "quality": "high"}], [])


@pytest.mark.parametrize(
    "refusal",
    [ModelGoneError("404"), UnauthorizedError("401"), CreditError("402"), InputRefusedError("400")],
    ids=lambda refusal: refusal.code,
)
async def test_refused_media_is_rerouted_with_the_input_of_the_next_target(client_of, refusal):
    first, second = Vendor("first", refusal=refusal), Vendor("second", OTHER_SCHEMA)
    client = await client_of(first, second)

    done = await client.until(await generate(client, size=2000, quality="high", steps=3))

    events, details = await history_of(client, done)
    attempts = await attempts_of(client, done)
    assert (done["status"], done["model"], done["error"]) == ("COMPLETED", "second/grey", None)
    assert done["input"] == {"bytes": 2000, "quality": "best", "seed": 7}
    assert second.given_inputs == [done["input"]]
    assert [(one["model"], one["status"], one["sent"]) for one in attempts] == [
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


async def test_each_target_has_all_retries(client_of):
    first, second = Vendor("first", refusal=BusyError("429")), Vendor("second", OTHER_SCHEMA, refusal=BusyError("429"))
    client = await client_of(first, second, max_tries=3, **SHORT_RETRY_PAUSE)

    failed = await client.until(await generate(client))

    events, _ = await history_of(client, failed)
    assert (failed["status"], failed["error"]["code"], failed["number_of_tries"]) == ("ERROR", "provider_busy", 6)
    assert (len(first.given_inputs), len(second.given_inputs)) == (3, 3)
    assert events.count("rerouted") == 1


@pytest.mark.parametrize("lost", [AnswerLostError("cut off"), TimeoutError()], ids=["lost", "time-out"])
async def test_lost_answer_is_never_rerouted(client_of, lost):
    first, second = Vendor("first", refusal=lost), Vendor("second", OTHER_SCHEMA)
    client = await client_of(first, second)

    failed = await client.until(await generate(client))

    assert (failed["status"], failed["error"]["code"], failed["model"]) == ("ERROR", "outcome_unknown", "first/grey")
    assert second.given_inputs == []


async def test_failure_after_the_purchase_is_never_rerouted(client_of):
    first, second = Vendor("first"), Vendor("second", OTHER_SCHEMA)
    first.failure = GenerationFailedError("out of memory")
    client = await client_of(first, second)

    failed = await client.until(await generate(client))

    assert (failed["status"], failed["error"]["code"]) == ("ERROR", "generation_failed")
    assert second.given_inputs == []


async def test_purchase_that_turns_up_at_an_earlier_target_is_fetched_there(client_of, db):
    first, second = Vendor("first", refusal=CreditError("402")), Vendor("second", OTHER_SCHEMA)
    second.failure = GenerationFailedError("out of memory")
    client = await client_of(first, second)
    failed = await client.until(await generate(client))
    first_attempt, _ = await attempts_of(client, failed)

    # As a callback of the first one reports, which has accepted the submission and answered 402.
    purchase = dummy_purchase(UUID(first_attempt["id"]))
    assert await record_purchases.many(db, [purchase]) == [PurchaseRecord.RECORDED]

    stored = await eventually(lambda: client.media(failed), lambda seen: seen["files"])
    attempts = await attempts_of(client, failed)
    assert (stored["status"], [one["status"] for one in attempts]) == ("ERROR", ["SUCCEEDED", "FAILED"])
    assert (await client.api.post(f"/media/{failed['id']}/retry")).status_code == 202
    assert (await client.until(failed, "COMPLETED"))["number_of_tries"] == 2


class VendorOfTwoModels(Vendor):
    """Offers two models, each with a price of its own; says of the first that it is gone."""

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


@pytest.mark.parametrize("while_waiting", [True, False])
async def test_purchase_at_an_earlier_target_has_the_price_of_that_target(client_of, db, while_waiting):
    vendor = VendorOfTwoModels()
    vendor.failure = BusyError("429") if while_waiting else GenerationFailedError("out of memory")
    vendor.refusal = vendor.failure if while_waiting else None
    both = Route("route/portrait", (FIRST, Target("first/black")))
    client = await client_of(vendor, route=both, retry_base_seconds=3600, retry_max_seconds=3600)
    media = await generate(client)
    status = "IN_QUEUE" if while_waiting else "ERROR"
    await eventually(lambda: client.media(media), lambda m: (m["status"], m["number_of_tries"]) == (status, 2))
    (purchased, _), vendor.failure = await attempts_of(client, media), None

    assert await record_purchases.many(db, [dummy_purchase(UUID(purchased["id"]))]) == [PurchaseRecord.RECORDED]
    await expedite(db, UUID(purchased["id"]))

    await eventually(lambda: client.media(media), lambda seen: seen["files"])
    first, second = await attempts_of(client, media)
    assert (first["status"], first["model"], Decimal(first["cost"])) == ("SUCCEEDED", "first/grey", 2)
    assert (second["status"], second["cost"]) == ("FAILED", None)


async def test_media_fails_after_the_last_target(client_of):
    vendors = (
        Vendor("first", refusal=CreditError("402")),
        Vendor("second", OTHER_SCHEMA, refusal=InputRefusedError("no")),
    )
    client = await client_of(*vendors)

    failed = await client.until(await generate(client))

    assert (failed["status"], failed["error"]["code"], failed["model"]) == ("ERROR", "input_refused", "second/grey")


async def test_request_skips_targets_that_are_unavailable_retired_or_do_not_fit(client_of, db):
    client = await client_of(Vendor("first"), Vendor("second", OTHER_SCHEMA), work=False)
    before = await generate(client)
    too_large = await generate(client, size=60_000)

    await provider_circuits.trip(db, "first", CreditError("402"), pause=timedelta(minutes=5))
    after = await eventually(lambda: generate(client), lambda media: media["model"] == "second/grey")
    waits = await generate(client, size=60_000)

    retired = await client_of(Vendor("first", status=ModelStatus.RETIRED), Vendor("second", OTHER_SCHEMA), work=False)
    assert [media["model"] for media in (before, too_large, waits)] == ["first/grey"] * 3
    assert after["input"] == {"quality": "best", "seed": 7}
    assert (await generate(retired))["model"] == "second/grey"


async def test_media_waiting_for_an_unavailable_model_is_rerouted(client_of, db, start_worker):
    first, second = Vendor("first"), Vendor("second", OTHER_SCHEMA)
    client = await client_of(first, second, work=False)
    media = [await generate(client) for _ in range(3)]
    fits_only_there = await generate(client, size=60_000)
    plain = await client.generate(model="first/grey")
    await pauses.pause(db, "first/grey", "by hand", lambda _moved: None)

    await start_worker(registry_of(first, second))
    done = [await client.until(one) for one in media]

    assert {(one["status"], one["model"]) for one in done} == {("COMPLETED", "second/grey")}
    assert first.given_inputs == []
    for one in (fits_only_there, plain):
        seen = await client.media(one)
        assert (seen["status"], seen["model"]) == ("IN_QUEUE", "first/grey")


async def test_target_that_no_worker_has_is_skipped(client_of, start_worker):
    client = await client_of(Vendor("first"), Vendor("second", OTHER_SCHEMA), work=False)
    media = await generate(client)
    second = Vendor("second", OTHER_SCHEMA)

    # This worker's route still has the target, but no provider here offers it.
    registry = registry_of(Vendor("first"), second)
    del registry._offers["first/grey"]
    await start_worker(registry, max_tries=1)

    done = await client.until(media)
    assert (done["status"], done["model"], done["number_of_tries"]) == ("COMPLETED", "second/grey", 1)


async def test_route_is_shown_with_its_targets_and_the_schema_of_the_first(client_of):
    client = await client_of(Vendor("first"), Vendor("second", OTHER_SCHEMA), work=False)

    shown = (await client.api.get("/models/route/portrait")).json()
    listed = (await client.api.get("/models", params={"provider": "route"})).json()["items"]

    assert listed == [shown]
    assert (shown["targets"], shown["input_schema"]) == (["first/grey", "second/grey"], GREY)
    assert shown["capabilities"] is None


async def test_route_may_have_its_own_schema(client_of):
    own = {"type": "object", "additionalProperties": False, "properties": {"weight": {"type": "integer"}}}
    first, second = Vendor("first"), Vendor("second", OTHER_SCHEMA)
    targets = Target("first/grey", rename={"weight": "size"}), Target("second/grey", rename={"weight": "bytes"})
    client = await client_of(first, second, route=Route("route/portrait", targets, input_schema=own), work=False)

    wrong = await client.api.post(
        "/media/generate", json={"prompt": "a", "model": "route/portrait", "input": {"size": 1}}
    )
    light = await client.api.post(
        "/media/generate", json={"prompt": "a", "model": "route/portrait", "input": {"weight": 60}}
    )

    assert wrong.json()["errors"][0]["field"] == "input.size"
    assert (light.json()["model"], light.json()["input"]) == ("second/grey", {"bytes": 60})


async def test_input_that_fits_no_target_is_refused_with_the_errors_of_the_first(client_of):
    own = {"type": "object", "properties": {"weight": {"type": "integer"}}}
    target = Target("first/grey", rename={"weight": "size"})
    client = await client_of(Vendor("first"), route=Route("route/portrait", (target,), input_schema=own), work=False)

    refused = await client.api.post(
        "/media/generate", json={"prompt": "a", "model": "route/portrait", "input": {"weight": 1}}
    )

    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "input.size")


def test_route_without_offered_targets_or_with_unknown_parameters_is_reported():
    unoffered = registry_of(Vendor("third"))
    unmappable = registry_of(
        Vendor("first"), route=Route("route/portrait", (Target("first/grey", constant={"colour": 1}),))
    )

    assert unoffered.load_errors == {"route/portrait": "no provider offers first/grey, second/grey"}
    assert unmappable.load_errors == {"route/portrait": "constant: first/grey has no parameter 'colour'"}
    assert unoffered.routes() == unmappable.routes() == []


async def test_estimate_of_a_route_is_that_of_its_target(client_of):
    priced = Vendor("first", price=Price(Decimal("0.02")))
    client = await client_of(priced, Vendor("second", OTHER_SCHEMA), work=False)

    estimate = (await client.api.post("/media/estimate", json={"prompt": "a", "model": "route/portrait"})).json()

    assert (estimate["model"], estimate["amount"]) == ("first/grey", "0.02")
