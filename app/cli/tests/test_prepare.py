"""What a deployment runs beside API and workers: `fleek prepare` before them, health checks along with them."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from app.core.database.migrations import current_revision, newest_revision
from app.core.database.pool import DatabasePool
from app.core.ids import new_id
from app.jobs.worker import leases
from app.storage.s3 import S3Store
from tests.fleek_cli import NOWHERE, bare_environment, fleek
from tests.fork_server import fork_server
from tests.support import dsn_of, environment_of, make_settings, on_server


def health_check(module, *arguments, folder, **environment):
    surroundings = bare_environment(folder) | environment
    return fork_server().run(
        [f"app.cli.checks.{module}", *arguments], environment=surroundings, folder=folder, timeout=60
    )


@pytest.fixture
async def unprepared(engines, base_settings):
    """Settings with an empty database and without a bucket."""
    await on_server(base_settings, "CREATE DATABASE unprepared")
    yield make_settings(engines, database_url=dsn_of(base_settings, "unprepared"), bucket_name="unprepared")
    await on_server(base_settings, "DROP DATABASE unprepared WITH (FORCE)")


async def test_prepare_creates_schema_and_bucket_and_can_be_repeated(unprepared, tmp_path):
    environment = environment_of(unprepared)
    for _ in range(2):
        done = fleek("prepare", folder=tmp_path, **environment)
        assert done.returncode == 0, done.stderr
        revision = f"The schema is at revision {newest_revision()}."
        assert done.stdout.splitlines() == [revision, "The bucket unprepared exists."]

    db = DatabasePool(unprepared.database_dsn, size=1)
    assert await current_revision(db) == newest_revision()
    await db.close()
    await S3Store(unprepared).check()


def test_prepare_says_what_it_waits_for_and_times_out(tmp_path):
    done = fleek("prepare", "--wait", "0.6", folder=tmp_path, **NOWHERE)

    assert done.returncode == 1
    assert done.stdout == "Waiting: the database does not answer (ConnectionRefusedError)\n"
    assert done.stderr == "fleek: the database does not answer (ConnectionRefusedError)\n"


def test_prepare_does_not_wait_for_permanent_errors(settings, tmp_path):
    environment = environment_of(settings, DATABASE_URL=dsn_of(settings, "missing_database"))
    refused = fleek("prepare", folder=tmp_path, **environment)
    invalid = fleek("prepare", folder=tmp_path, MAX_TRIES="many")

    assert refused.returncode == invalid.returncode == 1
    assert refused.stderr == 'fleek: the database refused the connection: database "missing_database" does not exist\n'
    assert invalid.stderr.startswith("fleek: invalid setting: MAX_TRIES")


def test_prepare_reports_an_unreachable_store(settings, tmp_path):
    environment = environment_of(settings, S3_ENDPOINT_URL=NOWHERE["S3_ENDPOINT_URL"])
    done = fleek("prepare", "--wait", "0", folder=tmp_path, **environment)

    assert done.returncode == 1
    assert done.stderr.startswith("fleek: the store does not answer")


async def test_worker_is_healthy_while_it_reports(settings, db, tmp_path):
    environment = environment_of(settings)
    await leases.register(db, new_id(), "elsewhere/7")
    stranger = health_check("worker_health", folder=tmp_path, **environment)
    assert stranger.returncode == 1
    assert stranger.stderr == "no worker of this host has reported to the database within its lease\n"

    await leases.register(db, new_id(), f"{socket.gethostname()}/7")
    assert health_check("worker_health", folder=tmp_path, **environment).returncode == 0

    await db.execute("UPDATE workers SET seen_at = now() - interval '1 hour'")
    assert health_check("worker_health", folder=tmp_path, **environment).returncode == 1


def test_worker_without_a_database_is_unhealthy(tmp_path):
    done = health_check("worker_health", folder=tmp_path, **NOWHERE)

    assert done.returncode == 1
    assert done.stderr == "the database does not answer (ConnectionRefusedError)\n"


@pytest.mark.parametrize(("status", "body"), [(200, b"{}"), (503, b'{"detail": "broker: does not answer"}')])
def test_api_health_follows_its_ready_endpoint(status, body, tmp_path):
    requests = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        done = health_check("api_health", str(server.server_port), folder=tmp_path)
        thread.join()

    assert requests == ["/tools/ready"]
    assert (done.returncode, done.stderr.strip()) == ((0, "") if status == 200 else (1, body.decode()))


def test_unreachable_api_is_unhealthy(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    done = health_check("api_health", str(port), folder=tmp_path)

    assert done.returncode == 1
    assert done.stderr == f"port {port} does not answer (ConnectionRefusedError)\n"
