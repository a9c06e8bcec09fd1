"""The same deaths on the way to Replicate: its adapter, its list of predictions, its callbacks, its own books."""

import asyncio

import pytest

from tests.crash.audit import died
from tests.crash.fleet import eventually, kill
from tests.crash.orders import Order, ask
from tests.providers.replicate_gateway import TOKEN, Gateway, paint

pytestmark = pytest.mark.timeout(300)

MODEL = "replicate/black-forest-labs/flux-schnell"
ADAPTER = "app.media_generator.replicate_media_generator.provider:ReplicateMediaGeneratorModel"
POINTS = (
    *("claim.after", "submit.after", "purchase.before", "purchase.after", "poll.first", "poll.done"),
    *("put.before", "put.after", "complete.before"),
)
BEFORE_ITS_CALLBACK = ("submit.after", "purchase.before", "purchase.after")
AFTER_ITS_CALLBACK = ("poll.first", "put.before", "complete.before")
OF_THE_API = ("callback.before", "callback.after")
STANDING = "SELECT status FROM media WHERE id::text = $1"
BOUGHT = "SELECT external_id FROM attempts"
KEYS = "SELECT FROM provider_keys WHERE provider = 'replicate' AND cardinality(keys) > 0"


@pytest.fixture
async def gateway():
    async with Gateway() as running:
        yield running


@pytest.fixture
def replicate(new_fleet, gateway):
    """Makes a fleet that buys at the gateway."""

    def make(**changes):
        account = {"REPLICATE_API_TOKEN": TOKEN, "REPLICATE_BASE_URL": f"{gateway.url}/v1", "CRASH_PROVIDER": ADAPTER}
        return new_fleet(**account, **changes)

    return make


@pytest.fixture
async def called_back(replicate, gateway):
    """A fleet that is called back, again until it answers."""
    gateway.repeats = True
    async with replicate() as fleet:
        yield fleet


def prompt_of(point):
    return f"dies@{point}"


async def asked(fleet, point):
    return (await ask(fleet, Order(prompt_of(point), MODEL)))["id"]


async def dies_with(fleet, point, *, first=None):
    """A worker dies with a job of its own, whose id this is; `first` finds rows before it gets the job."""
    worker = await fleet.start_doomed(point)
    if first is not None:
        await eventually(lambda: fleet.fetch(first))
    media = await asked(fleet, point)
    await died(fleet, worker, point, prompt_of(point))
    return media


async def all_are_completed(fleet, media):
    for one in media:
        (row,) = await eventually(
            lambda one=one: fleet.fetch(STANDING, one),
            lambda rows: rows[0]["status"] in {"COMPLETED", "ERROR", "CANCELED"},
        )
        assert row["status"] == "COMPLETED", fleet.logs()


async def each_is_bought_once(fleet, gateway, points):
    """By the gateway's books; and no purchase is unknown here, or another media's."""
    books = {(one["input"]["prompt"], number) for number, one in gateway.predictions.items()}
    assert sorted(prompt for prompt, _ in books) == sorted(prompt_of(point) for point in points)
    ours = await fleet.fetch("SELECT m.prompt, a.external_id FROM attempts a JOIN media m ON m.id = a.media_id")
    assert {tuple(row) for row in ours} == books


async def test_a_worker_that_dies_on_the_way_buys_nothing_twice(replicate, gateway):
    async with replicate(CALLBACK_URL="") as fleet:
        media = [await dies_with(fleet, point) for point in POINTS]
        fleet.start_worker(LEASE_SECONDS="1")
        await all_are_completed(fleet, media)
        await each_is_bought_once(fleet, gateway, POINTS)


async def test_a_worker_that_dies_before_or_after_its_callback_buys_nothing_twice(called_back, gateway):
    held = asyncio.Event()

    async def paint_later(given):
        await held.wait()
        return await paint(given)

    gateway.predictor = paint_later
    media = [await dies_with(called_back, point, first=KEYS) for point in BEFORE_ITS_CALLBACK]
    held.set()
    await gateway.settled()
    # Nobody is at work, and every purchase is known all the same.
    assert list(gateway.callback_statuses.values()) == [[204]] * len(media)
    assert {row["external_id"] for row in await called_back.fetch(BOUGHT)} == {*gateway.predictions}

    media += [await dies_with(called_back, point) for point in AFTER_ITS_CALLBACK]
    await gateway.settled()
    called_back.start_worker(LEASE_SECONDS="1")
    await all_are_completed(called_back, media)
    await each_is_bought_once(called_back, gateway, (*BEFORE_ITS_CALLBACK, *AFTER_ITS_CALLBACK))
    assert list(gateway.callback_statuses.values()) == [[204]] * len(media)


async def test_an_api_that_dies_before_it_answers_a_callback_is_called_again(called_back, gateway):
    called_back.start_worker()
    await eventually(lambda: called_back.fetch(KEYS))
    media = []
    for point in OF_THE_API:
        kill(called_back.api)
        called_back.start_api(point)
        media.append(await asked(called_back, point))
        await died(called_back, called_back.api, point, prompt_of(point))
        called_back.start_api()
        await gateway.settled()
    await all_are_completed(called_back, media)
    await each_is_bought_once(called_back, gateway, OF_THE_API)
    assert [(answers[0], answers[-1]) for answers in gateway.callback_statuses.values()] == [(0, 204)] * len(media)
