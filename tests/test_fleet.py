"""API and workers as processes of their own, on a real broker: what users run."""

import asyncio
import signal

import httpx2
import pytest

from tests.support import Client, eventually, served, worker


@pytest.fixture
async def fleet(settings, tmp_path):
    """The API in a process of its own, and a client of it."""
    with served(settings, tmp_path / "api.log", DATABASE_CONNECTIONS="20") as address:
        async with httpx2.AsyncClient(base_url=address, timeout=30, trust_env=False) as api:
            await eventually(lambda: Client(api).answers())
            yield Client(api)


async def registered(db, count):
    return await eventually(lambda: db.fetch("SELECT id FROM workers"), lambda rows: len(rows) == count)


async def test_200_media_at_once_are_each_generated_exactly_once_by_two_workers(fleet, settings, db, tmp_path):
    with worker(settings, tmp_path / "1.log", "w1"), worker(settings, tmp_path / "2.log", "w2"):
        await registered(db, 2)
        asked = await asyncio.gather(
            *(fleet.generate(input={"width": 64, "height": 64, "seed": seed}) for seed in range(200))
        )

        async def completed():
            return await db.fetch("SELECT id FROM media WHERE status = 'COMPLETED'")

        await eventually(completed, lambda rows: len(rows) == 200, seconds=60)

    assert len({media["id"] for media in asked}) == 200
    attempts = await db.fetch("SELECT media_id, count(*) AS count FROM attempts GROUP BY media_id")
    assert [row["count"] for row in attempts] == [1] * 200
    claims = await db.fetch(
        "SELECT worker_id, count(*) AS count FROM media_history WHERE event = 'claimed' GROUP BY worker_id"
    )
    assert sum(row["count"] for row in claims) == 200
    assert len(claims) == 2, "one worker did it all"


async def test_the_bell_wakes_a_worker_that_would_otherwise_look_much_later(fleet, settings, db, tmp_path):
    with worker(settings, tmp_path / "1.log", CLAIM_INTERVAL_SECONDS="60") as program:
        await registered(db, 1)
        await eventually(lambda: asyncio.sleep(0, "ready." in program.output))
        done = await fleet.until(await fleet.faulty())

    assert done["status"] == "COMPLETED"


async def test_a_worker_that_is_told_to_stop_hands_its_jobs_back_and_nothing_is_bought_again(
    fleet, settings, db, tmp_path
):
    with worker(settings, tmp_path / "1.log", "w1") as first:
        asked = [await fleet.faulty(delay=6) for _ in range(10)]
        await eventually(
            lambda: db.fetch("SELECT 1 FROM attempts WHERE status = 'SUBMITTED'"), lambda rows: len(rows) == 10
        )
        first.process.send_signal(signal.SIGTERM)
        first.process.wait(15)
        assert first.process.returncode == 0
        assert {(await fleet.media(media))["status"] for media in asked} == {"IN_QUEUE"}
    with worker(settings, tmp_path / "2.log", "w2"):
        done = [await fleet.until(media) for media in asked]

    assert {(media["status"], media["number_of_tries"]) for media in done} == {("COMPLETED", 1)}


async def test_a_worker_that_is_killed_loses_nothing_and_nothing_is_bought_again(fleet, settings, db, tmp_path):
    with (
        worker(settings, tmp_path / "1.log", "w1", LEASE_SECONDS="2") as first,
        worker(settings, tmp_path / "2.log", "w2", LEASE_SECONDS="2"),
    ):
        await registered(db, 2)
        asked = await asyncio.gather(*(fleet.faulty(delay=4) for _ in range(40)))
        await eventually(
            lambda: db.fetch("SELECT 1 FROM attempts WHERE status = 'SUBMITTED'"), lambda rows: len(rows) == 40
        )
        first.send(signal.SIGKILL)
        done = [await fleet.until(media) for media in asked]

    assert {(media["status"], media["number_of_tries"]) for media in done} == {("COMPLETED", 1)}


async def test_without_a_broker_everything_goes_on(settings, db, tmp_path):
    nowhere = {"REDIS_URL": "redis://127.0.0.1:9/0"}
    with (
        served(settings, tmp_path / "api.log", **nowhere) as address,
        worker(settings, tmp_path / "1.log", **nowhere),
    ):
        async with httpx2.AsyncClient(base_url=address, timeout=30, trust_env=False) as api:
            await eventually(lambda: Client(api).answers())
            client = Client(api)
            done = await client.until(await client.faulty())
            content = await api.get(done["files"][0]["url"])
            ready = await api.get("/tools/ready")

    assert done["status"] == "COMPLETED"
    assert content.status_code == 307
    assert ready.status_code == 503
    assert [check["name"] for check in ready.json()["checks"] if not check["ok"]] == ["broker"]


async def test_a_round_trip_through_a_worker_comes_back_or_says_that_none_does(fleet, settings, db, tmp_path):
    # Many at once: a time-out of one that is lost is seen in one of three, not in one of thirty.
    silent = await asyncio.gather(*(fleet.api.get("/tools/celery_status") for _ in range(60)))
    with worker(settings, tmp_path / "1.log"):
        await registered(db, 1)
        answered = await eventually(
            lambda: fleet.api.get("/tools/celery_status"), lambda answer: answer.status_code == 200
        )

    assert {(one.status_code, one.json()["code"]) for one in silent} == {(503, "worker_silent")}
    assert answered.json()["round_trip_milliseconds"] > 0


async def test_readiness_names_what_is_wrong_and_no_address(fleet, db):
    assert (await fleet.api.get("/tools/ready")).json()["status"] == "ready"

    await db.execute("UPDATE alembic_version SET version_num = '0001'")
    answer = await fleet.api.get("/tools/ready")

    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert "revision 0001" in answer.json()["detail"]
    assert "127.0.0.1" not in answer.text


async def test_a_default_model_that_nobody_offers_is_found_out(settings, tmp_path):
    with served(settings, tmp_path / "api.log", DEFAULT_MODEL="a/b") as address:
        async with httpx2.AsyncClient(base_url=address, timeout=30, trust_env=False) as api:
            await eventually(lambda: Client(api).answers())
            checks = (await api.get("/tools/ready")).json()["checks"]

    (providers,) = [check for check in checks if check["name"] == "providers"]
    assert (providers["ok"], "a/b" in providers["detail"]) == (False, True)


async def test_head_is_answered_like_get_without_a_body(fleet):
    asked = await fleet.faulty()

    answer = await fleet.api.head(f"/media/status/{asked['job_id']}")

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["etag"]
