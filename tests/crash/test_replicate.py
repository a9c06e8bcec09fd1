"""The same deaths on the way to Replicate: its adapter, its list of predictions, and books of its own."""

import pytest

from tests.crash.audit import died
from tests.crash.fleet import eventually
from tests.crash.orders import Order, ask
from tests.providers.replicate_gateway import TOKEN, Gateway

pytestmark = pytest.mark.timeout(300)

MODEL = "replicate/black-forest-labs/flux-schnell"
ADAPTER = "app.media_generator.replicate_media_generator.provider:ReplicateMediaGeneratorModel"
POINTS = (
    *("claim.after", "submit.after", "purchase.before", "purchase.after", "poll.first", "poll.done"),
    *("put.before", "put.after", "complete.before"),
)
STANDING = "SELECT status FROM media WHERE id::text = $1"


@pytest.fixture
async def gateway():
    async with Gateway() as running:
        yield running


async def test_a_worker_that_dies_on_the_way_buys_nothing_twice(new_fleet, gateway):
    account = {"REPLICATE_API_TOKEN": TOKEN, "REPLICATE_BASE_URL": f"{gateway.url}/v1", "CRASH_PROVIDER": ADAPTER}
    async with new_fleet(**account) as fleet:
        asked = []
        for point in POINTS:
            # A lease this long keeps it from the jobs of those that died before.
            worker = fleet.start_worker(point, LEASE_SECONDS="3600")
            await eventually(fleet.registered, lambda pids, worker=worker: worker.pid in pids)
            asked.append((await ask(fleet, Order(f"dies@{point}", MODEL)))["id"])
            await died(fleet, worker, point, f"dies@{point}")
        fleet.start_worker(LEASE_SECONDS="1")
        for media_id in asked:
            (row,) = await eventually(
                lambda media_id=media_id: fleet.fetch(STANDING, media_id),
                lambda rows: rows[0]["status"] in {"COMPLETED", "ERROR", "CANCELED"},
            )
            assert row["status"] == "COMPLETED", fleet.logs()

    sold = sorted(one["input"]["prompt"] for one in gateway.sold.values())
    assert sold == sorted(f"dies@{point}" for point in POINTS)
