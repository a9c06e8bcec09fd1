"""Broker, database, store and API go away while jobs are under way, and come back; the provider makes trouble."""

import asyncio
import itertools
import random
from collections import Counter

import httpx2
import pytest

from app.embedded.engines import Engines
from app.storage.s3 import S3Store
from tests.crash.audit import audit, died, rest
from tests.crash.fleet import Fleet, eventually, kill
from tests.crash.orders import ASK, COMPLETED, FAILED, HELD, Order, ask, mixed
from tests.crash.outages import away, frozen
from tests.fork_server import fork_server
from tests.support import make_settings, migrate

AWAY_SECONDS = 1.0
JOBS = 12
"""At work before an outage, and as many again are asked for during it."""
_runs = itertools.count(1)


@pytest.fixture(scope="module")
def own_engines(tmp_path_factory):
    with Engines(tmp_path_factory.mktemp("engines"), durable=False) as running:
        yield running


@pytest.fixture(scope="module")
async def fleet(own_engines, tmp_path_factory):
    """Takes the place of the fleet on everybody's engines; two healthy workers."""
    settings = make_settings(own_engines)
    await asyncio.to_thread(migrate, settings.database_dsn)
    await S3Store(settings).prepare()
    environment = {**own_engines.environment(), "BUCKET_NAME": settings.bucket_name}
    async with Fleet(environment, tmp_path_factory.mktemp("outages"), fork_server()) as running:
        workers = [running.start_worker() for _ in range(2)]
        await eventually(running.registered, lambda pids: {worker.pid for worker in workers} <= pids)
        yield running


@pytest.fixture
async def accepted(fleet):
    """Jobs that are under way, and the ids of all that were accepted so far; audited at the end of the test."""
    run = f"outage-{next(_runs)}"
    chance = random.Random(run)
    numbers = itertools.count(1)

    class Accepted(dict):
        async def more(self):
            orders = [mixed(f"{run}-{next(numbers)}", chance, longest=1.5, rarely=0) for _ in range(JOBS)]
            media = await asyncio.gather(*(ask(fleet, order) for order in orders))
            self.update((one["id"], one["prompt"]) for one in media)

    asked = Accepted()
    await asked.more()
    asked.run = run
    yield asked
    await rest(fleet, prefix=f"{run}-")
    verdict = await audit(fleet, asked, prefix=f"{run}-", sample=5)
    assert verdict.holds, "\n".join([*verdict.culprits, fleet.logs()])


async def test_a_broker_that_is_killed_and_comes_back_empty(accepted, own_engines):
    async with away(own_engines.valkey, empty=True):
        await accepted.more()
        await asyncio.sleep(AWAY_SECONDS)


async def test_a_broker_that_answers_nothing_for_a_while(accepted, own_engines):
    async with frozen(own_engines.valkey):
        await accepted.more()
        await asyncio.sleep(AWAY_SECONDS)


async def test_a_database_that_is_restarted(accepted, own_engines):
    async with away(own_engines.postgres, politely=True):
        await asyncio.sleep(AWAY_SECONDS)
    await accepted.more()


async def test_a_database_that_is_killed_while_clients_ask(accepted, own_engines):
    async with away(own_engines.postgres):
        asking = asyncio.create_task(accepted.more())
        await asyncio.sleep(AWAY_SECONDS)
    await asking


async def test_a_store_that_is_stopped_for_a_while(accepted, own_engines):
    async with away(own_engines.seaweed, politely=True):
        await accepted.more()
        await asyncio.sleep(AWAY_SECONDS)


TOO_SLOW = {"mode": "slow", "accept_after": 2.5}  # half a second longer than the adapter waits
TROUBLE = [
    ("sim/image", {"mode": "ok"}, COMPLETED),
    ("sim/image", {"mode": "slow", "accept_after": 1.0}, COMPLETED),
    ("sim/image", TOO_SLOW, COMPLETED),
    ("sim/image", {"mode": "busy", "busy_times": 3}, COMPLETED),
    ("sim/image", {"mode": "accept_then_drop"}, COMPLETED),
    ("sim/image", {"mode": "accept_then_500"}, COMPLETED),
    ("sim/image", {"mode": "accept_then_silence"}, COMPLETED),
    ("sim/image", {"mode": "accept_then_drop", "findable": False}, HELD),
    ("sim/image", {"mode": "fail_late", "delay": 0.5}, FAILED),
    ("blind/image", {"mode": "ok"}, COMPLETED),
    ("blind/image", TOO_SLOW, HELD),
    ("blind/image", {"mode": "accept_then_drop"}, HELD),
    ("blind/image", {"mode": "accept_then_500"}, HELD),
    ("blind/image", {"mode": "accept_then_silence"}, HELD),
    ("blind/image", {"mode": "fail_late", "delay": 0.5}, FAILED),
]


async def test_whatever_a_provider_does_it_is_paid_once_and_the_end_is_the_right_one(accepted, fleet):
    orders = {f"{accepted.run}-t{nth}": trouble for nth, trouble in enumerate(TROUBLE)}
    for prompt, (model, plan, _) in orders.items():
        accepted[(await ask(fleet, Order(prompt, model, plan)))["id"]] = prompt
    await rest(fleet, prefix=f"{accepted.run}-t")

    books = Counter(one["media"] for one in (await fleet.books())["purchases"])
    rows = await fleet.fetch("SELECT prompt, status, error->>'code' AS code FROM media")
    ends = {row["prompt"]: (row["status"], row["code"]) for row in rows}
    assert {prompt: (ends[prompt], books[prompt]) for prompt in orders} == {
        prompt: (end, 1) for prompt, (_, _, end) in orders.items()
    }


async def test_an_api_that_dies_between_commit_and_bell_has_accepted_the_job(accepted, fleet):
    kill(fleet.api)
    fleet.start_api("request.after")
    order = Order(f"{accepted.run}-of-an-API-that-died")
    with pytest.raises(httpx2.TransportError):
        await fleet.web.post(ASK, **order.request)
    await died(fleet, fleet.api, "request.after", order.prompt)
    await rest(fleet, prefix=order.prompt)
    (media,) = await fleet.fetch("SELECT id::text AS id, status FROM media WHERE prompt = $1", order.prompt)
    fleet.start_api()
    again = await ask(fleet, order)
    accepted[again["id"]] = order.prompt

    assert media["status"] == "COMPLETED"
    assert again["id"] == media["id"]
