"""`fleek up` as a user runs it: real processes, real engines, a folder and a port of its own."""

import contextlib
import os
import random
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Self

import asyncpg
import httpx2
import psutil
import pytest

from app.cli.console import one_line, verdict, without_passwords
from app.cli.environment import addresses, children_environment, read_env_file, write_env_file
from app.cli.up.supervisor import LONG_PAUSE, OFTEN, Watched
from app.core.config import Settings
from app.embedded.errors import EngineStartError
from app.embedded.process import LOOPBACK, port_is_free
from tests.nursery import nursery

READY = "Ctrl-C stops everything"
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


def a_port() -> int:
    """A free one, outside the range from which engines take theirs."""
    return next(port for port in random.sample(range(8100, 11_900), 100) if port_is_free(LOOPBACK, port))


def fleek(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    surroundings = bare_environment(folder) | environment
    return nursery().run(["app.cli.main", *arguments], environment=surroundings, folder=folder, timeout=60)


def bare_environment(folder: Path) -> dict[str, str]:
    root = str(Path(__file__).parents[1])
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": root, "COLUMNS": "200"}


def processes_in(folder: Path) -> list[psutil.Process]:
    """All whose working folder is there: engines, API, workers and helpers of a `fleek up`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(folder):
                found.append(process)
    return found


class Up:
    """One `fleek up`, ended with all its processes at the end of the block."""

    def __init__(self, folder: Path, *options: str, port: int | None = None, **environment: str) -> None:
        self.folder = folder
        self.port = port or a_port()
        self._log = folder / f"terminal-{time.monotonic_ns()}"
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "app.cli.main", "up", "--port", str(self.port), *options],
                cwd=folder,
                env=bare_environment(folder) | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.api = httpx2.Client(base_url=f"http://{LOOPBACK}:{self.port}", timeout=10, trust_env=False)

    @property
    def output(self) -> str:
        return self._log.read_text()

    def says(self, text: str, *, seconds: float = 45) -> str:
        """Wait until it has said it."""
        deadline = time.monotonic() + seconds
        while text not in self.output:
            assert self.process.poll() is None, f"ended without saying {text!r}: {self.output}"
            assert time.monotonic() < deadline, f"has not said {text!r}: {self.output}"
            time.sleep(0.02)
        return self.output

    def ready(self) -> Self:
        self.says(READY)
        return self

    def child(self, word: str) -> psutil.Process:
        """Its one child that has a word in its command line."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if word in " ".join(child.cmdline()):
                    found.append(child)
        assert len(found) == 1, found
        return found[0]

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> float:
        """Send a signal and wait; the seconds it took."""
        begun = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(20)
        return time.monotonic() - begun

    def generate(self, **body: Any) -> dict[str, Any]:
        answer = self.api.post("/media/generate", json={"prompt": "a lighthouse", **body})
        assert answer.status_code == 202, answer.text
        return answer.json()

    def media(self, job_id: str) -> dict[str, Any]:
        return self.api.get(f"/media/status/{job_id}").json()

    def completed(self, media: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while (seen := self.media(media["job_id"]))["status"] != "COMPLETED":
            assert seen["status"] != "ERROR", seen
            assert time.monotonic() < deadline, seen
            time.sleep(0.05)
        return seen

    def content(self, media: dict[str, Any]) -> bytes:
        return self.api.get(media["files"][0]["url"], follow_redirects=True).raise_for_status().content

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.api.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
        for process in processes_in(self.folder):
            with contextlib.suppress(psutil.Error):
                process.kill()


@pytest.fixture(scope="module")
def up(tmp_path_factory) -> Generator[Up]:
    """One that several tests use, in a folder whose `.env` serves others."""
    folder = tmp_path_factory.mktemp("up")
    (folder / ".env").write_text(MISLEADING)
    # an `app` of the user's own, which must not be taken for ours
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
        assert running.interrupt() < 10
        assert "by force" not in running.output


def test_it_prints_addresses_and_a_line_to_try(up):
    assert f"http://127.0.0.1:{up.port}/docs" in up.output
    assert f"curl -s -X POST http://127.0.0.1:{up.port}/media/generate " in up.output
    assert re.search(r"PostgreSQL +postgresql://fleek:\*\*\*@127\.0\.0\.1:\d+/fleek", up.output)
    assert "bucket from-dotenv" in up.output
    password = read_env_file(up.folder / ".fleek" / "env")["DATABASE_URL"].split(":")[2].split("@")[0]
    assert password not in up.output


def test_what_a_providers_settings_lack_is_said_and_keeps_nobody_from_starting(up):
    assert "Note: providers: cog: " in up.output
    assert "COG_BASE_URL: must begin with http:// or https:// and name a host" in up.output


def test_its_line_to_try_gives_a_picture(up):
    curl = next(line.strip() for line in up.output.splitlines() if line.strip().startswith("curl -s -X POST"))
    body = re.search(r"-d '(.*)'$", curl)[1]
    answer = up.api.post("/media/generate", content=body, headers={"Content-Type": "application/json"})
    media = up.completed(answer.json())
    assert media["files"][0]["url"].startswith(f"http://127.0.0.1:{up.port}/")
    assert up.content(media).startswith(b"\x89PNG")


def test_a_second_terminal_finds_the_engines(up):
    file = up.folder / ".fleek" / "env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "-c", Path(__file__).parents[1] / "alembic.ini", "current"],
        cwd=up.folder / "run",
        env=bare_environment(up.folder) | read_env_file(file),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "(head)" in done.stdout


def test_a_second_one_on_the_same_data_is_refused(up):
    for port in (a_port(), up.port):
        second = fleek("up", "--port", str(port), folder=up.folder)
        assert second.returncode == 1
        expected = (
            f"fleek: .fleek is in use by process {up.process.pid}: stop it first, or choose another data folder.\n"
        )
        assert second.stderr == expected
    assert up.process.poll() is None


def test_a_taken_port_is_refused_and_nothing_is_left(up, tmp_path):
    second = fleek("up", "--port", str(up.port), folder=tmp_path)
    assert second.returncode == 1
    assert second.stderr == f"fleek: port {up.port} is taken; choose another with --port\n"
    assert list(tmp_path.iterdir()) == []


def test_a_killed_worker_is_started_again_and_that_is_said(up):
    first = up.child("worker1@")
    other = up.child("worker2@").pid
    first.kill()
    up.says("worker 1 died (killed by signal 9, SIGKILL), started again")
    assert up.child("worker1@").pid != first.pid
    assert up.child("worker2@").pid == other


def test_killed_engines_and_the_api_are_started_again_where_they_were(up):
    before = read_env_file(up.folder / ".fleek" / "env")
    for word in ("valkey-server", "weed", "postgres", "uvicorn"):
        up.child(word).kill()
    for name in ("Valkey", "SeaweedFS", "PostgreSQL", "API"):
        up.says(f"{name} died (killed by signal 9, SIGKILL), started again")
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


def test_ctrl_c_ends_all_in_time_and_the_media_are_there_again(tmp_path):
    with Up(tmp_path) as first:
        first.ready()
        done = first.completed(first.generate())
        picture = first.content(done)
        waiting = first.generate(model="dummy/faulty", input={"delay": 600})
        children = psutil.Process(first.process.pid).children(recursive=True)
        assert len(children) >= 5
        assert first.interrupt() < 10
        assert first.process.returncode == 0
        assert [child for child in children if child.is_running()] == []
        assert processes_in(tmp_path) == []
        assert "by force" not in first.output
        assert not (tmp_path / ".fleek" / "env").exists()

    # as after a crash, with a PostgreSQL that is dead but that nobody has reaped
    zombie = subprocess.Popen(["true"])
    (tmp_path / ".fleek" / "postgres" / "data" / "postmaster.pid").write_text(f"{zombie.pid}\n")

    # killed this time: nothing stays behind, and the next start works at once
    with Up(tmp_path, port=first.port) as second:
        second.ready()
        assert second.content(second.media(done["job_id"])) == picture
        assert second.media(waiting["job_id"])["status"] in {"IN_QUEUE", "PROCESSING"}
        children = psutil.Process(second.process.pid).children(recursive=True)
        zombie.wait()
        second.process.kill()
        second.process.wait()
        with Up(tmp_path, port=first.port) as third:
            third.ready()
            assert psutil.wait_procs(children, timeout=10)[1] == []
            assert third.content(third.media(done["job_id"])) == picture
            assert third.interrupt(signal.SIGHUP) < 10
            assert third.process.returncode == 0
            assert processes_in(tmp_path) == []


def test_it_can_be_stopped_while_it_starts(tmp_path):
    with Up(tmp_path) as starting:
        starting.says("is starting")
        time.sleep(0.3)
        assert starting.interrupt(signal.SIGTERM) < 10
        assert starting.process.returncode == 0
        assert READY not in starting.output
        assert processes_in(tmp_path) == []


def test_what_does_not_stop_is_ended_by_force_and_a_second_ctrl_c_waits_for_nothing(tmp_path):
    with Up(tmp_path) as stuck:
        stuck.ready().child("worker1@").suspend()
        assert stuck.interrupt() < 10
        assert stuck.process.returncode == 0
        assert "Ended by force: worker 1." in stuck.output
        assert processes_in(tmp_path) == []

    with Up(tmp_path) as stuck:
        stuck.ready().child("worker1@").suspend()
        stuck.process.send_signal(signal.SIGINT)
        stuck.says("Stopping ...")
        time.sleep(0.7)
        assert stuck.interrupt() < 4
        assert processes_in(tmp_path) == []


async def test_a_migration_that_fails_is_one_line_and_nothing_runs_on(database, tmp_path):
    connection = await asyncpg.connect(database)
    await connection.execute("UPDATE alembic_version SET version_num = 'deadbeef'")
    await connection.close()
    failed = fleek("up", "--port", str(a_port()), folder=tmp_path, DATABASE_URL=database)
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1
    assert failed.stderr.startswith(
        "fleek: the migration failed: FAILED: Can't locate revision identified by 'deadbeef'"
    )
    assert "PostgreSQL" not in failed.stdout  # it was not started: there is one already
    assert processes_in(tmp_path) == []


def test_an_engine_that_cannot_start_is_one_line_and_nothing_runs_on(tmp_path):
    (tmp_path / ".fleek" / "valkey").mkdir(parents=True)
    (tmp_path / ".fleek" / "valkey" / "engine.json").write_text("garbage")
    failed = fleek("up", "--port", str(a_port()), folder=tmp_path)
    assert failed.returncode == 1
    assert re.fullmatch(r"fleek: Valkey did not start: .*engine\.json is damaged: .*\n", failed.stderr)
    assert processes_in(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        (["--host", "192.0.2.1"], {}, "fleek: 192.0.2.1 is no address of this machine; choose another with --host\n"),
        (
            ["--data", "file/data"],
            {},
            "fleek: the data folder file/data cannot be used: Not a directory; choose another",
        ),
        ([], {"MAX_TRIES": "many"}, "fleek: invalid setting: MAX_TRIES: Input should be a valid integer"),
    ],
)
def test_a_wrong_option_or_setting_is_one_line(options, environment, expected, tmp_path):
    (tmp_path / "file").touch()
    failed = fleek("up", "--port", str(a_port()), *options, folder=tmp_path, **environment)
    assert failed.returncode == 1
    assert failed.stderr.startswith(expected)
    assert failed.stderr.count("\n") == 1
    assert failed.stdout == ""


def test_version_help_and_unknown_commands(tmp_path):
    assert re.fullmatch(r"fleek \d+\.\d+\.\d+\n", fleek("--version", folder=tmp_path).stdout)
    told = fleek("--help", folder=tmp_path).stdout
    assert "up" in told
    assert "doctor" in told
    unknown = fleek("dwon", folder=tmp_path)
    assert unknown.returncode == 2
    assert "No such command 'dwon'" in unknown.stderr


def test_a_member_that_dies_again_and_again_is_given_longer_pauses():
    watched = Watched(None)
    pauses = [watched.died(now) for now in range(OFTEN + 1)]
    assert pauses == sorted(pauses)
    assert pauses[0] == 0
    assert pauses[OFTEN - 2] < pauses[OFTEN - 1] == pauses[OFTEN] == LONG_PAUSE
    assert watched.died(1000) == 0


def test_a_real_postgres_server_beats_the_database_url_of_a_file():
    settings = Settings(
        _env_file=None, database_url="postgresql://a:b@file/c", postgres_server="db", postgres_user="me"
    )
    real = {
        "POSTGRES_SERVER": "db",
        "REDIS_URL": "redis://r/0",
        "S3_ENDPOINT_URL": "https://s3",
        "PUBLIC_URL": "https://p",
    }
    found = addresses(real, {}, settings, "http://127.0.0.1:8000")
    assert found["DATABASE_URL"] == "postgresql://me:fleek@db:5469/fleek"
    assert found["S3_PUBLIC_URL"] == "https://s3"
    assert found["PUBLIC_URL"] == "https://p"
    assert found["BROKER_URL"] == "redis://r/0"
    assert addresses({**real, "BROKER_URL": "amqp://b//"}, {}, settings, "")["BROKER_URL"] == "amqp://b//"


def test_children_inherit_nothing_that_leads_elsewhere(monkeypatch):
    settings = Settings(_env_file=None)
    for name in ("AWS_SESSION_TOKEN", "RESULT_BACKEND", "CELERY_BROKER_URL", "UVICORN_RELOAD", "database_url", "KEPT"):
        monkeypatch.setenv(name, "theirs")
    mine = children_environment({"DATABASE_URL": "ours"}, settings, own_s3=True, exposed=False)
    assert "theirs" not in {value for name, value in mine.items() if name != "KEPT"}
    assert mine["KEPT"] == "theirs"
    assert mine["DATABASE_URL"] == "ours"
    assert children_environment({}, settings, own_s3=False, exposed=False)["AWS_SESSION_TOKEN"] == "theirs"


def test_private_addresses_are_allowed_while_only_this_machine_reaches_the_api(monkeypatch):
    monkeypatch.delenv("ALLOW_PRIVATE_ADDRESSES", raising=False)
    settings = Settings(_env_file=None)

    mine = children_environment({}, settings, own_s3=True, exposed=False)
    assert mine["ALLOW_PRIVATE_ADDRESSES"] == "true"
    assert "ALLOW_PRIVATE_ADDRESSES" not in children_environment({}, settings, own_s3=True, exposed=True)


@pytest.mark.parametrize(("said", "exposed"), [("false", False), ("true", True)])
def test_what_the_user_says_of_private_addresses_comes_first(monkeypatch, said, exposed):
    monkeypatch.setenv("ALLOW_PRIVATE_ADDRESSES", said)

    mine = children_environment({}, Settings(_env_file=None), own_s3=True, exposed=exposed)

    assert mine["ALLOW_PRIVATE_ADDRESSES"] == said


def test_the_env_file_keeps_every_character(tmp_path):
    values = {"A": 'p$w#d "x" \\n ${A}', "B": 'it\'s "so" \\ here', "C": ""}
    write_env_file(tmp_path / "env", values)
    assert read_env_file(tmp_path / "env") == values


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:p/w:d@x@host:1/db", "postgresql://me:***@host:1/db"),
        ("redis://:secret@host/0", "redis://:***@host/0"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("postgresql://me@host/db?password=x&sslmode=require", "postgresql://me@host/db?password=***&sslmode=require"),
    ],
)
def test_passwords_are_not_shown(address, shown):
    assert without_passwords(address) == shown


def test_of_a_long_output_the_telling_line_is_shown():
    output = "Traceback:\n  File x\nsqlalchemy.exc.ProgrammingError: no such table\n[SQL: ...]\n(Background on this)\n"
    assert verdict(output) == "sqlalchemy.exc.ProgrammingError: no such table"
    assert verdict("app.X.SettingsError: no\n\nERROR:    Application startup failed.\n") == "app.X.SettingsError: no"
    assert one_line(EngineStartError("X", "it ended", "a\nFATAL:  b")) == "X did not start: it ended: FATAL:  b"
