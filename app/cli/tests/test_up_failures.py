"""`fleek up` that cannot start, and members that keep dying."""

import re

import asyncpg
import pytest

from app.cli.up.supervisor import LONG_PAUSE, TOO_MANY_DEATHS, WatchedProcess
from tests.fleek_cli import fleek, free_api_port, processes_in


async def test_failed_migration_is_one_line_and_leaves_no_process(database, tmp_path):
    connection = await asyncpg.connect(database)
    await connection.execute("UPDATE alembic_version SET version_num = 'deadbeef'")
    await connection.close()
    failed = fleek("up", "--port", str(free_api_port()), folder=tmp_path, DATABASE_URL=database)
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1
    assert failed.stderr.startswith(
        "fleek: the migration failed: FAILED: Can't locate revision identified by 'deadbeef'"
    )
    assert "PostgreSQL" not in failed.stdout  # it was not started: DATABASE_URL names one
    assert processes_in(tmp_path) == []


def test_engine_that_fails_to_start_is_one_line_and_leaves_no_process(tmp_path):
    (tmp_path / ".fleek" / "valkey").mkdir(parents=True)
    (tmp_path / ".fleek" / "valkey" / "engine.json").write_text("garbage")
    failed = fleek("up", "--port", str(free_api_port()), folder=tmp_path)
    assert failed.returncode == 1
    assert re.fullmatch(r"fleek: Valkey did not start: .*engine\.json is damaged: .*\n", failed.stderr)
    assert processes_in(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        (
            ["--host", "192.0.2.1"],
            {},
            "fleek: 192.0.2.1 is not an address of this machine; choose another with --host\n",
        ),
        (
            ["--data", "file/data"],
            {},
            "fleek: the data folder file/data cannot be used: Not a directory; choose another",
        ),
        ([], {"MAX_TRIES": "many"}, "fleek: invalid setting: MAX_TRIES: Input should be a valid integer"),
    ],
)
def test_invalid_option_or_setting_is_one_line(options, environment, expected, tmp_path):
    (tmp_path / "file").touch()
    failed = fleek("up", "--port", str(free_api_port()), *options, folder=tmp_path, **environment)
    assert failed.returncode == 1
    assert failed.stderr.startswith(expected)
    assert failed.stderr.count("\n") == 1
    assert failed.stdout == ""


def test_restart_pause_grows_with_repeated_deaths():
    watched = WatchedProcess(None)
    pauses = [watched.record_death(now) for now in range(TOO_MANY_DEATHS + 1)]
    assert pauses == sorted(pauses)
    assert pauses[0] == 0
    assert pauses[TOO_MANY_DEATHS - 2] < pauses[TOO_MANY_DEATHS - 1] == pauses[TOO_MANY_DEATHS] == LONG_PAUSE
    assert watched.record_death(1000) == 0
