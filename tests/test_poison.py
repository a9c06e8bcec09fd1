"""A media that kills its workers is found, set apart and stopped; what was beside it is not blamed."""

import signal

import httpx2
import pytest

from app.core.ids import new_id
from app.jobs.job_errors import WORKER_LOST
from app.jobs.states import SUSPECT, SUSPECT_FROM
from app.jobs.transitions import expiry, release
from app.jobs.transitions.claim import claim_suspects
from app.jobs.worker import leases
from tests.support import Client, claim, eventually, served, worker


async def dies(db, *, limit=100, suspects=0, below=2**31 - 1):
    """A worker that claims, and is gone; the ids that it had."""
    worker_id = new_id()
    await leases.register(db, worker_id, "dies")
    await db.execute("UPDATE media SET next_run = now() - interval '1 s'")
    rows = await claim(db, "network", worker_id=worker_id, limit=limit) if limit else []
    if suspects:
        rows += await claim_suspects(db, "network", worker_id=worker_id, limit=suspects, below=below)
    await leases.unregister(db, worker_id)
    await release.return_orphans(db)
    return {row.id for row in rows}


async def takeovers(db):
    return {row["id"]: row["takeovers"] for row in await db.fetch("SELECT id, takeovers FROM media")}


async def test_of_a_dead_workers_jobs_each_is_counted_and_suspected_the_second_time(client, db):
    for _ in range(5):
        await client.faulty()

    await dies(db)
    ranks = {row["rank"] for row in await db.fetch("SELECT rank FROM media")}
    again = await dies(db)

    assert SUSPECT not in ranks
    assert len(again) == 5
    assert set((await takeovers(db)).values()) == {SUSPECT_FROM}
    assert {row["rank"] for row in await db.fetch("SELECT rank FROM media")} == {SUSPECT}


async def test_what_was_beside_a_suspect_is_not_blamed(client, db):
    suspect = await client.faulty()
    await dies(db)
    await dies(db)
    innocent = [await client.faulty() for _ in range(10)]

    had = await dies(db, suspects=1)

    counts = {str(media_id): count for media_id, count in (await takeovers(db)).items()}
    assert len(had) == 11
    assert counts[suspect["id"]] == SUSPECT_FROM + 1
    assert {counts[media["id"]] for media in innocent} == {0}


async def test_the_worst_suspects_are_taken_apart_from_the_others(client, db):
    for _ in range(4):
        await client.faulty()
    await dies(db)
    await dies(db)
    await dies(db, limit=0, suspects=1)  # one of the four was alone, and its worker died
    worker_id = new_id()
    await leases.register(db, worker_id, "test")
    await db.execute("UPDATE media SET next_run = now()")

    rows = await claim_suspects(db, "network", worker_id=worker_id, limit=8, below=SUSPECT_FROM + 1)

    assert [row.takeovers for row in rows] == [2, 2, 2]
    assert await claim(db, "network", worker_id=worker_id, limit=10) == []


async def test_after_so_many_workers_it_is_given_up(client, db):
    media = await client.faulty()
    await dies(db)
    for _ in range(2):
        await dies(db, suspects=1)

    assert await expiry.give_up(db, takeovers=4, error=WORKER_LOST.as_json) == []
    assert len(await expiry.give_up(db, takeovers=3, error=WORKER_LOST.as_json)) == 1

    over = await client.media(media)
    assert (over["status"], over["error"]["code"]) == ("ERROR", "worker_lost")
    assert (await client.api.post(f"/media/{media['id']}/retry")).status_code == 202
    assert set((await takeovers(db)).values()) == {0}


async def test_a_suspect_that_goes_well_is_done(product, db):
    media = [await product.faulty(delay=0.2) for _ in range(12)]
    await db.execute(
        "UPDATE media SET takeovers = 1 + mod(abs(hashtext(id::text)), 4), rank = $1 WHERE status = 'IN_QUEUE'", SUSPECT
    )

    assert {(await product.until(one))["status"] for one in media} == {"COMPLETED"}


POISON = '''
"""A plug-in that kills the process that works on a certain prompt."""

import os
import signal

from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel


class PoisonMediaGeneratorModel(DummyMediaGeneratorModel):
    name = "poison"

    def open(self, output):
        if "poison" in output.location:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().open(output)
'''


@pytest.fixture
def poisonous(tmp_path):
    """A folder that holds the plug-in as an installed distribution."""
    (tmp_path / "poisonous.py").write_text(POISON)
    info = tmp_path / "poisonous-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: poisonous\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fleek.providers]\npoison = poisonous:PoisonMediaGeneratorModel\n")
    return str(tmp_path)


async def test_poison_is_stopped_and_the_fleet_goes_on(settings, db, tmp_path, poisonous):
    plugin = {"PYTHONPATH": poisonous, "LEASE_SECONDS": "1", "MAX_TAKEOVERS": "5", "CLAIM_INTERVAL_SECONDS": "0.2"}
    with served(settings, tmp_path / "api.log", **plugin) as address:
        async with httpx2.AsyncClient(base_url=address, timeout=30) as api:
            client = Client(api)
            await eventually(client.answers)
            poison = await client.generate(prompt="poison", model="poison/faulty")
            others = [await client.generate(model="poison/faulty", input={"delay": 1}) for _ in range(10)]
            deaths = 0
            while (seen := await client.media(poison))["status"] not in {"ERROR", "COMPLETED"}:
                with worker(settings, tmp_path / f"{deaths}.log", **plugin) as program:
                    await eventually(lambda: over_or_dead(client, poison, program), seconds=40)
                    deaths += program.process.poll() == -signal.SIGKILL
            with worker(settings, tmp_path / "last.log", **plugin):
                done = [await client.until(media) for media in others]

    assert (seen["error"]["code"], deaths) == ("worker_lost", 5)
    assert {(media["status"], media["number_of_tries"]) for media in done} == {("COMPLETED", 1)}


async def over_or_dead(client, media, program):
    return program.process.poll() is not None or (await client.media(media))["status"] == "ERROR"
