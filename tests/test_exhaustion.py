"""A full disk, a closed pipe, no files left, no memory: they cost log lines and time, but no job and no process."""

import asyncio
import os
import resource
from base64 import b64encode
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from aiohttp import web

from tests.receiver import Receiver
from tests.sample_media import MP4
from tests.support import Client, eventually, served, worker

DISK_FULL = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON media FOR EACH ROW EXECUTE FUNCTION refuse()"""


STANDARD_STREAMS = 3


async def workers_of(db):
    return [int(row["name"].rpartition("/")[2]) for row in await db.fetch("SELECT name FROM workers")]


@contextmanager
def limited(pid, kind, soft, *, hard=False):
    """A process that has no more than that."""
    before = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (soft, soft if hard else before[1]))
    yield
    if not hard:
        resource.prlimit(pid, kind, before)


@contextmanager
def without_files(pid):
    """A process that can open no file, and no connection."""
    with limited(pid, resource.RLIMIT_NOFILE, STANDARD_STREAMS):
        yield


def address_space(pid):
    """In bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


async def disconnect(db):
    """Break the connections of everybody else."""
    await db.execute(
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()"""
    )


@pytest.fixture
async def fleet():
    """A client of an API in a process of its own."""
    async with httpx2.AsyncClient(timeout=30, trust_env=False) as api:

        async def use(address):
            api.base_url = address
            client = Client(api)
            await eventually(client.answers)
            return client

        yield use


async def test_work_goes_on_where_no_line_can_be_logged(fleet, settings, db, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with (
        served(settings, pipe) as address,
        worker(settings, pipe, LEASE_SECONDS="2") as program,
        worker(settings, Path("/dev/full"), "w2", LEASE_SECONDS="2") as other,
    ):
        client = await fleet(address)
        await eventually(lambda: workers_of(db), lambda pids: len(pids) == 2)
        os.close(reading)
        media = [await client.until(await client.faulty(**plan)) for plan in ({}, {"fail_times": 1}, {}, {})]
        await db.execute("ALTER TABLE media RENAME COLUMN prompt TO gone")
        answer = await client.api.get("/media")
        await db.execute("ALTER TABLE media RENAME COLUMN gone TO prompt")
        alive = await workers_of(db)

    assert [one["status"] for one in media] == ["COMPLETED"] * 4
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert set(alive) == {program.process.pid, other.process.pid}


async def test_a_full_database_is_told_as_one_and_nothing_is_lost(client, runner, db):
    media = await client.faulty(hang=True)
    await client.until(media, "PROCESSING")
    await db.execute(DISK_FULL)

    refused = await client.api.post("/media/generate", json={"prompt": "p"})
    await client.api.post(f"/media/{media['id']}/cancel")
    await asyncio.sleep(0.5)
    await db.execute("DROP TRIGGER refuse ON media")
    await client.api.post(f"/media/{media['id']}/cancel")

    assert (refused.status_code, refused.json()["code"]) == (503, "database_full")
    assert (await client.until(media))["status"] == "CANCELED"
    assert (await client.until(await client.faulty()))["status"] == "COMPLETED"


async def test_without_files_left_both_wait_and_go_on(fleet, settings, db, tmp_path):
    with served(settings, tmp_path / "api.log") as address, worker(settings, tmp_path / "w.log") as program:
        client = await fleet(address)
        await eventually(lambda: workers_of(db))
        media = await client.faulty(delay=0.5)
        await client.until(media, "PROCESSING")
        with without_files(address.pid), without_files(program.process.pid):
            await disconnect(db)
            refused = await eventually(
                lambda: client.api.get("/media"), lambda answer: answer.status_code == 503 and "too_many" in answer.text
            )
            # Connections that cannot be accepted wait, and nobody else's is lost.
            waiting = [
                asyncio.create_task(asyncio.open_connection(*address.removeprefix("http://").split(":")))
                for _ in range(5)
            ]
            still = await client.api.get("/tools/status")
            await asyncio.sleep(0.5)
        done = await client.until(media)
        for _, writer in await asyncio.gather(*waiting):
            writer.close()
        again = await client.until(await client.faulty())

    assert (refused.status_code, refused.json()["code"]) == (503, "too_many_open_files")
    assert still.status_code == 200
    assert (done["status"], again["status"]) == ("COMPLETED", "COMPLETED")
    assert program.process.returncode == 0


async def test_a_full_disk_or_no_memory_for_a_decode_costs_the_probe_and_not_the_file(fleet, settings, db, tmp_path):
    async def video(_got):
        return web.json_response({"created": 1, "data": [{"b64_json": b64encode(MP4).decode()}]})

    async with Receiver(video) as provider:
        environment = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": provider.url, "OPENAI_MODELS": "video"}
        log = tmp_path / "w.log"
        with (
            served(settings, tmp_path / "api.log", **environment) as address,
            worker(settings, log, **environment) as program,
        ):
            client = await fleet(address)
            (pid,) = await eventually(lambda: workers_of(db))
            with limited(pid, resource.RLIMIT_FSIZE, 0), limited(address.pid, resource.RLIMIT_FSIZE, 0):
                full = await client.until(await client.generate(model="openai/video"))
                sent = await client.api.post("/files", files={"file": ("v.mp4", MP4)})
            probed = await client.until(await client.generate(model="openai/video"))
            with limited(pid, resource.RLIMIT_AS, address_space(pid) + 100 * 2**20, hard=True):
                blind = await client.until(await client.generate(model="openai/video"))

    assert [one["status"] for one in (full, probed, blind)] == ["COMPLETED"] * 3, [full, probed, blind]
    assert [one["files"][0]["seconds"] for one in (full, probed, blind)] == [None, 2.0, None]
    assert sent.status_code == 201
    assert program.process.returncode == 0
