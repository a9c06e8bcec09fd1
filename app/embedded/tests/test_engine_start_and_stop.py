"""Embedded engines start, keep their data, and leave nothing behind."""

import contextlib
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest

from app.embedded.engine import Engine
from app.embedded.engines import ALL, Engines
from app.embedded.errors import EngineStartError
from app.embedded.postgres import PostgresEngine
from app.embedded.process import LOG_LIMIT, LOOPBACK, free_port
from app.embedded.seaweed import SeaweedEngine
from app.embedded.valkey import ValkeyEngine
from tests.engine_clients import (
    address_of,
    engine_file,
    is_running,
    on_linux,
    process_tree,
    read_note,
    wait_until,
    write_note,
)

PARENT = """
import sys, time
from pathlib import Path
from app.embedded.engines import Engines
engines = Engines(Path(sys.argv[1]), durable=False)
engines.start()
print(*(engine.pid for engine in engines.chosen), flush=True)
time.sleep(600)
"""


MISLEADING = {
    "S3": "http://localhost:1",
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "else",
    "PGDATA": "/nowhere",
    "PGHOST": "nowhere",
    "PGOPTIONS": "-c nonsense=1",
}


@pytest.fixture(scope="module", params=[PostgresEngine, ValkeyEngine, SeaweedEngine])
def engine(request, tmp_path_factory):
    """An engine that tests share, as creating a folder takes longer than restarting; each test starts it if needed."""
    shared = request.param(tmp_path_factory.mktemp("engine"))
    yield shared
    shared.stop()


@pytest.fixture(scope="module")
def other_engines(tmp_path_factory):
    """A second set of engines, started in an environment full of misleading variables."""
    others = Engines(tmp_path_factory.mktemp("others"), durable=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XDG_RUNTIME_DIR", raising=False)
        for name, value in MISLEADING.items():
            patch.setenv(name, value)
        others.start()
    yield others
    others.stop()


async def test_data_secrets_and_port_survive_a_restart(engine, start):
    engine.start()
    await write_note(engine, "kept")
    address = address_of(engine)
    engine.stop()

    second = start(type(engine), engine.data)

    assert await read_note(second) == "kept"
    assert address_of(second) == address


async def test_acknowledged_writes_survive_sigkill(engine):
    engine.start()
    await write_note(engine, "acknowledged")

    psutil.Process(engine.pid).kill()
    wait_until(lambda: not engine.alive)
    engine.start()

    assert await read_note(engine) == "acknowledged"


async def test_taken_ports_are_replaced_by_others(engine):
    engine.start()
    await write_note(engine, "kept")
    engine.stop()
    ports = engine_file(engine.data)["ports"]

    with contextlib.ExitStack() as stack:
        for port in ports.values():
            stack.enter_context(socket.create_server((LOOPBACK, port)))
        engine.start()

        assert not set(engine_file(engine.data)["ports"].values()) & set(ports.values())
        assert await read_note(engine) == "kept"


def test_port_lost_between_choice_and_start_is_replaced(engine, monkeypatch):
    engine.stop()
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        lost = other.getsockname()[1]
        choices = iter([lost])
        monkeypatch.setattr(Engine, "_port", lambda self, old, taken: next(choices, None) or free_port(twin=True))

        engine.start()

        assert engine.alive
        assert engine.port != lost


def test_requested_port_is_used_when_free(start, tmp_path):
    port = free_port()

    assert start(ValkeyEngine, tmp_path, port=port).url == f"redis://127.0.0.1:{port}/0"


def test_foreign_variables_do_not_mislead_engines(other_engines):
    assert all(engine.alive for engine in other_engines.chosen)


async def test_two_sets_of_engines_run_side_by_side(engines, other_engines):
    for ours, theirs in zip(engines.chosen, other_engines.chosen, strict=True):
        await write_note(ours, "ours")
        await write_note(theirs, "theirs")

        assert (await read_note(ours), await read_note(theirs)) == ("ours", "theirs")


def test_stop_leaves_no_process(other_engines):
    other_engines.start()
    family = [process for engine in other_engines.chosen for process in process_tree(engine.pid)]
    assert len(family) > len(ALL)
    began = time.monotonic()

    other_engines.stop()

    assert time.monotonic() - began < 5
    assert not [process for process in family if is_running(process)]
    assert not any(engine.alive for engine in other_engines.chosen)


@on_linux
def test_engines_of_a_killed_parent_end_and_the_next_start_waits_for_them(engines, tmp_path):
    with subprocess.Popen([sys.executable, "-c", PARENT, tmp_path], stdout=subprocess.PIPE) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        family = [process for pid in pids for process in process_tree(pid)]
        parent.kill()

    with Engines(tmp_path, durable=False) as next_ones:
        assert not [process for process in family if is_running(process)]
        assert all(engine.alive for engine in next_ones.chosen)


def test_only_chosen_engines_run(tmp_path):
    with Engines(tmp_path, only=["valkey"], durable=False) as started:
        assert set(started.environment()) == {"REDIS_URL"}
        assert [engine.name for engine in started.chosen] == ["Valkey"]


def test_failed_engine_stops_the_others(tmp_path):
    broken = Engines(tmp_path, only=["valkey", "postgres"], durable=False)
    (tmp_path / "postgres" / "data").mkdir(parents=True)

    with pytest.raises(EngineStartError, match="PostgreSQL did not start"):
        broken.start()

    assert not any(engine.alive for engine in broken.chosen)


def test_engine_that_never_answers_times_out_and_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(ValkeyEngine, "_probe", lambda self: False)
    monkeypatch.setattr(ValkeyEngine, "start_seconds", 0.2)
    engine = ValkeyEngine(tmp_path)

    with pytest.raises(EngineStartError, match="not ready after 0 s"):
        engine.start()

    assert not engine.alive


def test_engine_that_ignores_sigterm_is_killed(start, tmp_path):
    engine = start(ValkeyEngine, tmp_path, durable=False)
    process = psutil.Process(engine.pid)
    process.suspend()

    engine.stop(timeout=0.1)

    assert not is_running(process)


def test_damaged_engine_file_is_named(tmp_path):
    (tmp_path / "engine.json").write_text("{")

    with pytest.raises(EngineStartError, match=r"engine\.json is damaged"):
        ValkeyEngine(tmp_path).start()


def test_engines_start_from_the_main_thread_only(tmp_path):
    errors = []

    def begin():
        try:
            ValkeyEngine(tmp_path).start()
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()

    assert errors == ["engines are started from the main thread"]


def test_large_log_is_rotated(start, tmp_path):
    (tmp_path / "valkey.log").write_bytes(b"x" * (LOG_LIMIT + 1))

    start(ValkeyEngine, tmp_path, durable=False)

    assert (tmp_path / "valkey.old.log").stat().st_size > LOG_LIMIT > (tmp_path / "valkey.log").stat().st_size
