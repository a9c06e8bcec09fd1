"""`fleek db`, `fleek store`, `fleek serve` and `fleek worker` as an operator or a supervisor runs them."""

import asyncio
import json
import os
import signal
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx2
import obstore
import psutil
import pytest

from app.cli.checks.bucket import PROBE
from app.cli.environment import write_env_file
from app.core.database.migrations import newest_revision
from app.embedded.lock import DataFolderLock
from app.storage.s3 import S3Store
from tests.support import Program, dsn_of, environment_of, eventually, make_settings, migrate, on_server
from tests.test_doctor import NOWHERE
from tests.test_up import a_port, fleek


@pytest.fixture
def cli(settings, tmp_path):
    def run(*arguments, **environment):
        return fleek(*arguments, folder=tmp_path, **(environment_of(settings) | environment))

    return run


@pytest.fixture
async def empty(engines, base_settings):
    """Settings with a database that nobody has migrated."""
    await on_server(base_settings, "CREATE DATABASE never_migrated")
    yield make_settings(engines, database_url=dsn_of(base_settings, "never_migrated"))
    await on_server(base_settings, "DROP DATABASE never_migrated WITH (FORCE)")


def checks_of(done):
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def test_upgrading_says_from_where_to_where(empty, cli):
    newest = newest_revision()
    first = cli("db", "upgrade", **environment_of(empty))
    told = cli("db", "upgrade", "--json", **environment_of(empty))

    assert (first.returncode, first.stdout) == (0, f"The schema went from nothing to revision {newest}.\n")
    assert json.loads(told.stdout) == {"from": newest, "to": newest}


def test_upgrading_waits_only_so_long(cli):
    done = cli("db", "upgrade", "--wait", "0.6", "--json", **NOWHERE)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "fleek: Waiting: the database does not answer (ConnectionRefusedError)",
        "fleek: the database does not answer (ConnectionRefusedError)",
    ]


async def test_a_schema_from_newer_code_is_left_alone(db, cli):
    await db.execute("UPDATE alembic_version SET version_num = 'from_the_future'")
    upgraded = await asyncio.to_thread(cli, "db", "upgrade")
    checked = checks_of(await asyncio.to_thread(cli, "db", "check", "--json"))

    assert (upgraded.returncode, upgraded.stdout) == (1, "")
    assert upgraded.stderr == (
        "fleek: the database is at revision from_the_future of a newer release; this one leaves it alone\n"
    )
    assert (checked["revision"]["ok"], "schema" in checked) == (True, False)
    assert checked["revision"]["detail"].startswith("at revision from_the_future of a newer release")


async def test_a_migration_that_fails_is_told_in_one_line(database, db, cli):
    await asyncio.to_thread(migrate, database, "-1", down=True)
    await db.execute("ALTER TABLE attempts ADD COLUMN called_back boolean")

    done = await asyncio.to_thread(cli, "db", "upgrade")

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("fleek: the migration failed: ")
    assert 'column "called_back" of relation "attempts" already exists' in done.stderr


async def test_a_good_database_passes_every_check_and_a_changed_one_does_not(db, cli):
    good = await asyncio.to_thread(cli, "db", "check")
    await db.execute("DROP INDEX ix_media_due")
    changed = await asyncio.to_thread(cli, "db", "check", "--json")

    assert [line.split()[:2] for line in good.stdout.splitlines()] == [
        ["ok", name] for name in ("database", "writable", "encoding", "revision", "schema")
    ]
    assert (good.returncode, changed.returncode) == (0, 1)
    assert [name for name, check in checks_of(changed).items() if not check["ok"]] == ["schema"]
    assert "ix_media_due" in checks_of(changed)["schema"]["detail"]


async def test_an_old_schema_and_a_read_only_database_are_found(base_settings, database, cli):
    await asyncio.to_thread(migrate, database, "0004", down=True)
    await on_server(
        base_settings, f"ALTER DATABASE {database.rpartition('/')[2]} SET default_transaction_read_only = on"
    )

    done = await asyncio.to_thread(cli, "db", "check", "--json")
    listed = await asyncio.to_thread(cli, "jobs", "pause")

    failed = {name: check["hint"] for name, check in checks_of(done).items() if not check["ok"]}
    assert failed.keys() == {"writable", "revision"}
    assert "fleek db upgrade" in failed["revision"]
    assert (listed.returncode, listed.stderr.endswith(": run fleek db upgrade\n")) == (1, True)


def test_a_database_that_is_away_is_one_failed_check(cli):
    done = cli("db", "check", **NOWHERE)

    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "FAIL  database  the database does not answer (ConnectionRefusedError)",
        "                -> is PostgreSQL running, and are DATABASE_URL or POSTGRES_* right?",
    ]


async def test_a_good_store_passes_every_check_and_nothing_is_left_behind(settings, cli):
    done = await asyncio.to_thread(cli, "store", "check", "--json")

    assert done.returncode == 0
    assert list(checks_of(done)) == ["bucket", "write", "read", "signed URL", "private", "delete"]
    assert all(check["ok"] for check in checks_of(done).values())
    assert obstore.list(S3Store(settings)._objects, prefix="fleek-check/").collect() == []


@pytest.mark.parametrize(
    ("change", "name", "hint"),
    [
        ({"BUCKET_NAME": "nobody-made-it"}, "bucket", "run fleek prepare"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "write", "AWS_SECRET_ACCESS_KEY is not the one"),
        ({"AWS_ACCESS_KEY_ID": "wrong"}, "write", "AWS_ACCESS_KEY_ID is not known"),
        ({"S3_PUBLIC_URL": "http://127.0.0.1:1"}, "signed URL", "S3_PUBLIC_URL must be the address"),
        ({"S3_ENDPOINT_URL": "http://127.0.0.1:1"}, "bucket", "check S3_ENDPOINT_URL"),
    ],
)
async def test_what_is_wrong_with_a_store_gets_a_hint(template, change, name, hint, cli):
    done = await asyncio.to_thread(cli, "store", "check", "--json", **change)

    check = checks_of(done)[name]
    assert (done.returncode, check["ok"]) == (1, False)
    assert check["hint"].startswith(hint)


@contextmanager
def open_to_everybody():
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PROBE)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


async def test_a_bucket_that_everybody_reads_is_found(template, cli):
    with open_to_everybody() as address:
        done = await asyncio.to_thread(cli, "store", "check", "--json", S3_PUBLIC_URL=address)

    failed = [name for name, check in checks_of(done).items() if not check["ok"]]
    assert failed == ["private"]


async def test_serve_becomes_uvicorn_and_stops_when_told(settings, tmp_path):
    port = a_port()
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
    # uvicorn lets the signal that ended it be its end
    assert status in {0, -signal.SIGTERM}, program.output


async def answers(api):
    try:
        return (await api.get("/tools/status")).status_code == 200
    except httpx2.TransportError:
        return False


async def test_worker_becomes_celery_and_stops_when_told(settings, db, tmp_path):
    environment = environment_of(settings, CELERY_LOADER="nonsense", APP="nonsense")
    command = ("app.cli.main", "worker", "--name", "night", "--slots", "7", "--", "--concurrency", "1")
    with Program(*command, environment=environment, log=tmp_path / "worker.log") as program:
        pid = program.process.pid
        named = f"%/{pid}"
        await eventually(lambda: db.fetch("SELECT FROM workers WHERE name LIKE $1", named))
        process = psutil.Process(pid)
        arguments, slots = process.cmdline(), process.environ()["WORKER_SLOTS"]
        await eventually(lambda: said(program), lambda output: "ready." in output)
        os.kill(pid, signal.SIGTERM)
        status = await asyncio.to_thread(program.process.wait, 15)

    assert {"celery", "night@%h", "--concurrency"} <= set(arguments)
    assert (slots, status) == ("7", 0), program.output
    assert await db.fetch("SELECT FROM workers") == []


async def said(program):
    return program.output


@pytest.mark.parametrize("command", [["worker"], ["jobs", "list"]])
def test_an_invalid_setting_is_named_in_one_line(command, tmp_path):
    done = fleek(*command, folder=tmp_path, MAX_TRIES="many")

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("fleek: invalid setting: MAX_TRIES")


@pytest.fixture
def up(settings, tmp_path):
    """What a running `fleek up` leaves in its folder: the lock, and its addresses."""
    lock = DataFolderLock(tmp_path / ".fleek")
    lock.acquire()
    write_env_file(tmp_path / ".fleek" / "env", environment_of(settings))
    yield lock
    lock.release()


async def test_a_fleek_up_in_the_same_folder_is_used_unless_a_variable_says_where(up, template, client, tmp_path):
    media = await client.generate()

    async def listed(*arguments, **environment):
        return await asyncio.to_thread(fleek, *arguments, folder=tmp_path, **environment)

    joined = await listed("jobs", "list", "--json")
    stored = await listed("store", "check", "--json", S3_PUBLIC_URL="http://127.0.0.1:1")
    elsewhere = await listed("jobs", "list", REDIS_URL=NOWHERE["REDIS_URL"])
    up.release()
    killed = await listed("jobs", "list")

    assert json.loads(joined.stdout)["job_id"] == media["job_id"]
    # a variable that leads nowhere else counts as well
    assert [name for name, check in checks_of(stored).items() if not check["ok"]] == ["signed URL", "private"]
    assert elsewhere.returncode == killed.returncode == 1
