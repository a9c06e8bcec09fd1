"""A media item that kills its workers is found, claimed apart and given up; jobs held beside it are not blamed."""

import signal

import httpx2
import pytest

from app.jobs.job_errors import WORKER_LOST
from app.jobs.states import SUSPECT, SUSPECT_FROM
from app.jobs.transitions import expiry, release
from app.jobs.transitions.claim import claim_suspects
from app.jobs.worker import leases
from tests.jobs import register_worker
from tests.support import Client, claim, eventually, served, worker


async def claim_and_die(db, *, limit=100, suspects=0, below=2**31 - 1):
    """A worker claims, and dies; the ids of the media that it held."""
    worker_id = await register_worker(db, "dying")
    await db.execute("UPDATE media SET next_run = now() - interval '1 s'")
    rows = await claim(db, "network", worker_id=worker_id, limit=limit) if limit else []
    if suspects:
        rows += await claim_suspects(db, "network", worker_id=worker_id, limit=suspects, below=below)
    await leases.unregister(db, worker_id)
    await release.return_orphans(db)
    return {row.id for row in rows}


async def takeovers(db):
    return {row["id"]: row["takeovers"] for row in await db.fetch("SELECT id, takeovers FROM media")}


async def test_job_is_a_suspect_after_the_second_worker_that_died_with_it(client, db):
    for _ in range(5):
        await client.faulty()

    await claim_and_die(db)
    ranks = {row["rank"] for row in await db.fetch("SELECT rank FROM media")}
    again = await claim_and_die(db)

    assert SUSPECT not in ranks
    assert len(again) == 5
    assert set((await takeovers(db)).values()) == {SUSPECT_FROM}
    assert {row["rank"] for row in await db.fetch("SELECT rank FROM media")} == {SUSPECT}


async def test_job_held_beside_a_suspect_is_not_blamed(client, db):
    suspect = await client.faulty()
    await claim_and_die(db)
    await claim_and_die(db)
    innocent = [await client.faulty() for _ in range(10)]

    held_ids = await claim_and_die(db, suspects=1)

    counts = {str(media_id): count for media_id, count in (await takeovers(db)).items()}
    assert len(held_ids) == 11
    assert counts[suspect["id"]] == SUSPECT_FROM + 1
    assert {counts[media["id"]] for media in innocent} == {0}


async def test_worst_suspects_are_claimed_apart_from_the_others(client, db, worker_id):
    for _ in range(4):
        await client.faulty()
    await claim_and_die(db)
    await claim_and_die(db)
    await claim_and_die(db, limit=0, suspects=1)  # one of the four was claimed alone, and its worker died
    await db.execute("UPDATE media SET next_run = now()")

    rows = await claim_suspects(db, "network", worker_id=worker_id, limit=8, below=SUSPECT_FROM + 1)

    assert [row.takeovers for row in rows] == [2, 2, 2]
    assert await claim(db, "network", worker_id=worker_id, limit=10) == []


async def test_job_is_given_up_after_too_many_dead_workers(client, db):
    media = await client.faulty()
    await claim_and_die(db)
    for _ in range(2):
        await claim_and_die(db, suspects=1)

    assert await expiry.give_up(db, takeovers=4, error=WORKER_LOST.as_json) == []
    assert len(await expiry.give_up(db, takeovers=3, error=WORKER_LOST.as_json)) == 1

    failed = await client.media(media)
    assert (failed["status"], failed["error"]["code"]) == ("ERROR", "worker_lost")
    assert (await client.api.post(f"/media/{media['id']}/retry")).status_code == 202
    assert set((await takeovers(db)).values()) == {0}


async def test_suspect_that_succeeds_is_completed(product, db):
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
def poison_plugin(tmp_path):
    """A folder that holds the plug-in as an installed distribution."""
    (tmp_path / "poison_plugin.py").write_text(POISON)
    info = tmp_path / "poison_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: poison_plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fleek.providers]\npoison = poison_plugin:PoisonMediaGeneratorModel\n")
    return str(tmp_path)


async def test_poison_job_is_given_up_and_the_fleet_completes_the_others(settings, db, tmp_path, poison_plugin):
    plugin = {"PYTHONPATH": poison_plugin, "LEASE_SECONDS": "1", "MAX_TAKEOVERS": "5", "CLAIM_INTERVAL_SECONDS": "0.2"}
    with served(settings, tmp_path / "api.log", **plugin) as address:
        async with httpx2.AsyncClient(base_url=address, timeout=30, trust_env=False) as api:
            client = Client(api)
            await eventually(client.answers)
            poison = await client.generate(prompt="poison", model="poison/faulty")
            others = [await client.generate(model="poison/faulty", input={"delay": 1}) for _ in range(10)]
            deaths = 0
            while (seen := await client.media(poison))["status"] not in {"ERROR", "COMPLETED"}:
                with worker(settings, tmp_path / f"{deaths}.log", **plugin) as program:
                    await eventually(lambda: failed_or_killed(client, poison, program), seconds=40)
                    deaths += program.process.poll() == -signal.SIGKILL
            with worker(settings, tmp_path / "last.log", **plugin):
                done = [await client.until(media) for media in others]

    assert (seen["error"]["code"], deaths) == ("worker_lost", 5)
    assert {(media["status"], media["number_of_tries"]) for media in done} == {("COMPLETED", 1)}


async def failed_or_killed(client, media, program):
    return program.process.poll() is not None or (await client.media(media))["status"] == "ERROR"
