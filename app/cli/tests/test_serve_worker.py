"""`fleek serve`, `fleek worker`, and a running `fleek up` that other commands join."""

import asyncio
import json
import os
import signal

import httpx2
import psutil
import pytest

from app.cli.bind_address import BindAddress
from app.cli.environment import write_env_file
from app.core.config import Settings
from app.embedded.lock import DataFolderLock
from tests.fleek_cli import NOWHERE, fleek, free_api_port
from tests.support import Program, environment_of, eventually


def checks_of(done):
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


async def test_serve_becomes_uvicorn_and_stops_on_sigterm(settings, tmp_path):
    port = free_api_port()
    environment = environment_of(settings, UVICORN_PORT="1", WEB_CONCURRENCY="1")
    command = ("app.cli.main", "serve", "--port", str(port), "--", "--root-path", "/below")
    with Program(*command, environment=environment, log=tmp_path / "serve.log") as program:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as api:
            await eventually(lambda: answers(api))
            arguments = psutil.Process(program.process.pid).cmdline()
            taken = await asyncio.to_thread(
                fleek, "serve", "--port", str(port), folder=tmp_path, **environment_of(settings)
            )
        os.kill(program.process.pid, signal.SIGTERM)
        status = await asyncio.to_thread(program.process.wait, 15)

    assert {"uvicorn", "app.main:app", "/below"} <= set(arguments)
    assert (taken.returncode, taken.stderr) == (1, f"fleek: port {port} is taken; choose another with --port\n")
    # uvicorn ends by the signal that stopped it
    assert status in {0, -signal.SIGTERM}, program.output


async def answers(api):
    try:
        return (await api.get("/tools/status")).status_code == 200
    except httpx2.TransportError:
        return False


@pytest.mark.parametrize(
    ("host", "added"),
    [
        ("127.0.0.1", {}),
        ("0.0.0.0", {}),
        ("::", {}),
        ("::1", {}),
        ("localhost", {}),
        ("api.internal", {}),
        ("devbox", {"ALLOWED_HOSTS": "*.internal,devbox"}),
    ],
)
def test_api_accepts_the_name_it_listens_on(host, added):
    settings = Settings(_env_file=None, allowed_hosts="*.internal")

    assert BindAddress(host, 8000).allowed_hosts(settings) == added


async def test_worker_becomes_celery_and_stops_on_sigterm(settings, db, tmp_path):
    environment = environment_of(settings, CELERY_LOADER="nonsense", APP="nonsense")
    command = ("app.cli.main", "worker", "--name", "night", "--slots", "7", "--", "--concurrency", "1")
    with Program(*command, environment=environment, log=tmp_path / "worker.log") as program:
        pid = program.process.pid
        named = f"%/{pid}"
        await eventually(lambda: db.fetch("SELECT FROM workers WHERE name LIKE $1", named))
        process = psutil.Process(pid)
        arguments, slots = process.cmdline(), process.environ()["WORKER_SLOTS"]
        await eventually(lambda: output_of(program), lambda output: "ready." in output)
        os.kill(pid, signal.SIGTERM)
        status = await asyncio.to_thread(program.process.wait, 15)

    assert {"celery", "night@%h", "--concurrency"} <= set(arguments)
    assert (slots, status) == ("7", 0), program.output
    assert await db.fetch("SELECT FROM workers") == []


async def output_of(program):
    return program.output


@pytest.mark.parametrize("command", [["worker"], ["jobs", "list"]])
def test_invalid_setting_is_named_in_one_line(command, tmp_path):
    done = fleek(*command, folder=tmp_path, MAX_TRIES="many")

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("fleek: invalid setting: MAX_TRIES")


@pytest.fixture
def running_up(settings, tmp_path):
    """What a running `fleek up` leaves in its folder: the lock, and its addresses."""
    lock = DataFolderLock(tmp_path / ".fleek")
    lock.acquire()
    write_env_file(tmp_path / ".fleek" / "env", environment_of(settings))
    yield lock
    lock.release()


async def test_running_fleek_up_is_used_unless_a_variable_names_an_engine(running_up, template, client, tmp_path):
    media = await client.generate()

    async def listed(*arguments, **environment):
        return await asyncio.to_thread(fleek, *arguments, folder=tmp_path, **environment)

    joined = await listed("jobs", "list", "--json")
    stored = await listed("store", "check", "--json", S3_PUBLIC_URL="http://127.0.0.1:1")
    elsewhere = await listed("jobs", "list", REDIS_URL=NOWHERE["REDIS_URL"])
    running_up.release()
    killed = await listed("jobs", "list")

    assert json.loads(joined.stdout)["job_id"] == media["job_id"]
    # other variables apply as well
    assert [name for name, check in checks_of(stored).items() if not check["ok"]] == ["signed URL", "private"]
    assert elsewhere.returncode == killed.returncode == 1
