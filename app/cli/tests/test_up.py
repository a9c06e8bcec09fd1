"""`fleek up` as a user runs it: real processes, real engines; these tests share one."""

import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Generator

import httpx2
import pytest

from app.cli.environment import read_env_file
from app.core.database.migrations import ROOT
from tests.fleek_cli import Up, bare_environment, fleek, free_api_port, processes_in

MISLEADING = """
DATABASE_URL=postgresql://compose:compose@nowhere.invalid/compose
BROKER_URL=amqp://nowhere.invalid//
REDIS_URL=redis://nowhere.invalid/0
S3_ENDPOINT_URL=http://nowhere.invalid
S3_PUBLIC_URL=http://nowhere.invalid
PUBLIC_URL=http://nowhere.invalid
AWS_ACCESS_KEY_ID=compose
AWS_SECRET_ACCESS_KEY=compose
BUCKET_NAME=from-dotenv
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory) -> Generator[Up]:
    """One that the tests share, in a folder whose `.env` belongs to another program."""
    folder = tmp_path_factory.mktemp("up")
    (folder / ".env").write_text(MISLEADING)
    # an `app` of the user's own, which must not be imported instead of ours
    (folder / "app").mkdir()
    (folder / "app" / "__init__.py").write_text("raise RuntimeError('not this one')")
    misleading = {
        "RESULT_BACKEND": "redis://127.0.0.1:1",
        "AWS_SESSION_TOKEN": "x",
        "WEB_CONCURRENCY": "2",
        "REDIS_URL": "",
        "COG_BASE_URL": "127.0.0.1:5000",
    }
    (folder / "run").mkdir()
    with Up(folder, "--workers", "2", **misleading) as running:
        yield running.ready()


def test_banner_shows_addresses_and_an_example_request(up):
    assert f"http://127.0.0.1:{up.port}/docs" in up.output
    assert f"curl -s -X POST http://127.0.0.1:{up.port}/media/generate " in up.output
    assert re.search(r"PostgreSQL +postgresql://fleek:\*\*\*@127\.0\.0\.1:\d+/fleek", up.output)
    assert "bucket from-dotenv" in up.output
    password = read_env_file(up.folder / ".fleek" / "env")["DATABASE_URL"].split(":")[2].split("@")[0]
    assert password not in up.output


def test_incomplete_provider_settings_are_noted_and_do_not_prevent_the_start(up):
    assert "Note: providers: cog: " in up.output
    assert "COG_BASE_URL: must begin with http:// or https:// and name a host" in up.output


def test_example_request_generates_a_picture(up):
    curl = next(line.strip() for line in up.output.splitlines() if line.strip().startswith("curl -s -X POST"))
    body = re.search(r"-d '(.*)'$", curl)[1]
    answer = up.api.post("/media/generate", content=body, headers={"Content-Type": "application/json"})
    media = up.completed(answer.json())
    assert media["files"][0]["url"].startswith(f"http://127.0.0.1:{up.port}/")
    assert up.content(media).startswith(b"\x89PNG")


def test_env_file_leads_a_second_terminal_to_the_engines(up):
    file = up.folder / ".fleek" / "env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "-c", ROOT / "alembic.ini", "current"],
        cwd=up.folder / "run",
        env=bare_environment(up.folder) | read_env_file(file),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "(head)" in done.stdout


def test_second_fleek_up_on_the_same_data_is_refused(up):
    for port in (free_api_port(), up.port):
        second = fleek("up", "--port", str(port), folder=up.folder)
        assert second.returncode == 1
        expected = (
            f"fleek: .fleek is in use by process {up.process.pid}: stop it first, or choose another data folder.\n"
        )
        assert second.stderr == expected
    assert up.process.poll() is None


def test_taken_port_is_refused_and_leaves_nothing_behind(up, tmp_path):
    second = fleek("up", "--port", str(up.port), folder=tmp_path)
    assert second.returncode == 1
    assert second.stderr == f"fleek: port {up.port} is taken; choose another with --port\n"
    assert list(tmp_path.iterdir()) == []


def test_killed_worker_is_restarted_and_reported(up):
    first = up.child("worker1@")
    other = up.child("worker2@").pid
    first.kill()
    up.says("worker 1 died (killed by signal 9, SIGKILL) and was restarted")
    assert up.child("worker1@").pid != first.pid
    assert up.child("worker2@").pid == other


def test_killed_engines_and_api_are_restarted_at_the_same_addresses(up):
    before = read_env_file(up.folder / ".fleek" / "env")
    for word in ("valkey-server", "weed", "postgres", "uvicorn"):
        up.child(word).kill()
    for name in ("Valkey", "SeaweedFS", "PostgreSQL", "API"):
        up.says(f"{name} died (killed by signal 9, SIGKILL) and was restarted")
    deadline = time.monotonic() + 20
    while not _answers(up, "/tools/ready"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert read_env_file(up.folder / ".fleek" / "env") == before
    assert up.content(up.completed(up.generate())).startswith(b"\x89PNG")


def _answers(up, path):
    try:
        return up.api.get(path).status_code == 200
    except httpx2.TransportError:
        return False


def test_hanging_process_is_killed_alone(up):
    # the last test of this file: it ends the shared `fleek up`
    up.child("worker1@").suspend()
    assert up.interrupt(signal.SIGHUP) < 10
    assert up.process.returncode == 0
    assert "Killed: worker 1." in up.output
    assert processes_in(up.folder) == []
