"""The small parts: settings, ids, connections, group commit, logging."""

import asyncio
import json
import subprocess
import sys
import uuid

import asyncpg
import pytest

from app.core.config import Settings
from app.core.database.group_commit import GroupCommit
from app.core.database.migrations import ROOT
from app.core.database.pool import UNAVAILABLE, DatabasePool
from app.core.errors import SettingsError
from app.core.file_types import Kind, NotMediaError, inspect
from app.core.ids import new_id
from app.core.load_settings import load_settings
from app.core.pagination import InvalidCursorError, decode_cursor, encode_cursor
from app.core.telemetry.sentry import report_errors
from app.logs.recorder import MOST, Recorder
from app.media_generator.dummy_media_generator.png import png_of_about


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path


def test_settings_come_from_env_then_env_local_then_the_environment(folder, monkeypatch):
    (folder / ".env").write_text("PROJECT_NAME=one\nBUCKET_NAME=one\nDEFAULT_MODEL=one/one\n")
    (folder / ".env.local").write_text("BUCKET_NAME=two\nDEFAULT_MODEL=two/two\n")
    monkeypatch.setenv("DEFAULT_MODEL", "three/three")

    settings = load_settings()

    assert (settings.project_name, settings.bucket_name, settings.default_model) == ("one", "two", "three/three")


def test_the_committed_env_works_without_change(folder):
    (folder / ".env").write_text((ROOT / ".env").read_text())

    settings = load_settings()

    assert settings.database_dsn == "postgresql://fleek:fleek@127.0.0.1:5469/fleek"
    assert settings.backend_cors_origins == []
    assert settings.sentry_dsn is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTGRES_PORT", "many"),
        ("DATABASE_URL", "mysql://x"),
        ("REDIS_URL", "http://x"),
        ("S3_ENDPOINT_URL", "localhost:9000"),
        ("ENVIRONMENT", "moon"),
        ("SIGNED_URL_SECONDS", "5"),
    ],
)
def test_an_invalid_setting_is_named(folder, monkeypatch, name, value):
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=name):
        load_settings()


def test_database_url_stands_in_for_the_five(folder, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql+asyncpg://u:p@h:1/d")

    assert load_settings().database_dsn == "postgresql://u:p@h:1/d"


def test_a_password_with_signs_survives(folder, monkeypatch):
    monkeypatch.setenv("POSTGRES_PASSWORD", "p@ss:w/rd")

    assert load_settings().database_dsn == "postgresql://fleek:p%40ss%3Aw%2Frd@127.0.0.1:5469/fleek"


def test_origins_are_parted_by_commas(folder, monkeypatch):
    monkeypatch.setenv("BACKEND_CORS_ORIGINS", "https://a.example, https://b.example/")

    assert load_settings().backend_cors_origins == ["https://a.example", "https://b.example"]


def test_secrets_do_not_show(folder, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")

    assert "very-secret" not in repr(load_settings())


def test_sentry_without_its_sdk_says_what_to_install(folder, monkeypatch):
    monkeypatch.setenv("SENTRY_DSN", "https://key@sentry.example/1")
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)

    with pytest.raises(SettingsError, match=r"fleek\[sentry\]"):
        report_errors(load_settings())


def test_ids_sort_by_time_and_are_version_7():
    ids = [new_id() for _ in range(1000)]

    assert {(one.version, one.variant) for one in ids} == {(7, uuid.RFC_4122)}
    assert [one.int >> 80 for one in ids] == sorted(one.int >> 80 for one in ids)
    assert len(set(ids)) == 1000


def test_a_cursor_survives_and_nonsense_does_not():
    one = new_id()

    assert decode_cursor(encode_cursor(one)) == one
    for nonsense in ("", "x", "ä", encode_cursor(one) + "AAAA", "=" * 30):
        with pytest.raises(InvalidCursorError):
            decode_cursor(nonsense)


async def test_no_more_connections_are_opened_than_allowed(settings):
    few = DatabasePool(settings.database_dsn, size=3)

    await asyncio.gather(*(few.fetch("SELECT pg_sleep(0.01)") for _ in range(30)))
    rows = await few.fetch("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")

    assert rows[0][0] <= 3
    await few.close()


async def test_a_query_that_is_cut_off_never_answers_the_next_one(settings):
    one = DatabasePool(settings.database_dsn, size=1)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await one.fetch("SELECT pg_sleep(0.1), 'old'")
        assert (await one.fetchrow("SELECT 'new'"))[0] == "new"
    await one.close()


async def test_a_wrong_statement_keeps_the_connection(settings):
    one = DatabasePool(settings.database_dsn, size=1)
    before = (await one.fetchrow("SELECT pg_backend_pid()"))[0]

    with pytest.raises(asyncpg.PostgresError):
        await one.fetch("SELECT 1/0")

    assert (await one.fetchrow("SELECT pg_backend_pid()"))[0] == before
    await one.close()


async def test_connections_that_the_server_closed_are_replaced(settings, base_settings):
    one = DatabasePool(settings.database_dsn, size=2)
    pid = (await one.fetchrow("SELECT pg_backend_pid()"))[0]
    killer = await asyncpg.connect(base_settings.database_dsn)
    await killer.execute("SELECT pg_terminate_backend($1)", pid)
    await killer.close()
    await asyncio.sleep(0.2)

    assert (await one.fetchrow("SELECT 1"))[0] == 1
    await one.close()


async def test_a_waiter_that_gives_up_loses_no_place(settings):
    one = DatabasePool(settings.database_dsn, size=1)
    slow = asyncio.create_task(one.fetch("SELECT pg_sleep(0.2)"))
    await asyncio.sleep(0.05)
    waiter = asyncio.create_task(one.fetch("SELECT 1"))
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.gather(slow, waiter, return_exceptions=True)

    assert (await one.fetchrow("SELECT 1"))[0] == 1
    await one.close()


async def test_writes_that_come_together_share_a_round():
    rounds = []

    async def write(items):
        rounds.append(list(items))
        await asyncio.sleep(0.01)
        return [item * 10 for item in items]

    batch = GroupCommit(write)

    assert await asyncio.gather(*(batch(number) for number in range(5))) == [0, 10, 20, 30, 40]
    assert [item for items in rounds for item in items] == [0, 1, 2, 3, 4]
    assert len(rounds) <= 2


async def test_one_bad_item_spoils_nobody_elses_write():
    async def write(items):
        if 3 in items:
            raise ValueError("three")
        return list(items)

    batch = GroupCommit(write, shared=(OSError,))
    results = await asyncio.gather(*(batch(number) for number in range(5)), return_exceptions=True)

    assert [result for result in results if not isinstance(result, ValueError)] == [0, 1, 2, 4]
    assert isinstance(results[3], ValueError)


async def test_an_outage_is_everybodys_and_is_told_once():
    calls = []

    async def write(items):
        calls.append(items)
        raise OSError("away")

    batch = GroupCommit(write, shared=(OSError,))
    results = await asyncio.gather(*(batch(number) for number in range(5)), return_exceptions=True)

    assert all(isinstance(result, OSError) for result in results)
    assert len(calls) <= 2


async def test_a_caller_that_is_cancelled_does_not_stop_the_writing():
    written = []

    async def write(items):
        await asyncio.sleep(0.02)
        written.extend(items)
        return list(items)

    batch = GroupCommit(write)
    first = asyncio.create_task(batch(1))
    await asyncio.sleep(0.01)
    first.cancel()

    assert await batch(2) == 2
    assert written == [1, 2]


def test_secrets_are_never_logged():
    program = """
import structlog
from app.core.telemetry.logging import set_up_logging
set_up_logging(level="INFO")
structlog.get_logger("x").info("called", api_token="abc", authorization="Bearer abc", url="u")
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    line = json.loads(run.stderr)
    assert (line["api_token"], line["authorization"], line["url"]) == ("***", "***", "u")


async def test_the_recorder_is_bounded_and_counts_what_it_drops(settings):
    recorder = Recorder(DatabasePool("postgresql://127.0.0.1:9/x", size=1))

    for number in range(MOST + 7):
        recorder.record({"event": "e", "number": number})

    assert recorder.dropped == 7


async def test_what_the_database_refuses_does_not_stop_the_recorder(db):
    recorder = Recorder(db)
    recorder.start()
    good = {"timestamp": "2026-01-01T00:00:00Z", "level": "info", "event": "good", "media_id": str(new_id())}
    recorder.record({"event": "no media"})
    recorder.record({**good, "event": "bad\x00name"})
    await asyncio.sleep(0.6)
    recorder.record({**good, "text": "a\x00b", "odd": object()})
    await recorder.stop()

    rows = await db.fetch("SELECT event, fields->>'text' AS text FROM logs")
    assert [tuple(row) for row in rows] == [("good", "ab")]


@pytest.mark.parametrize("bytes_", [b"", b"hello", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_media_is_refused(bytes_):
    with pytest.raises(NotMediaError):
        inspect(bytes_)


def test_a_png_is_known_by_its_bytes():
    assert inspect(png_of_about(5000)[:100]) == Kind("image/png", "png", 256, 19)


async def test_a_connection_that_the_server_ends_is_never_given_to_the_next_one(settings, base_settings):
    few = DatabasePool(settings.database_dsn, size=5)
    killer = await asyncpg.connect(base_settings.database_dsn)
    name = settings.database_dsn.rpartition("/")[2]
    seen = []

    async def use():
        for _ in range(150):
            try:
                await few.fetch("SELECT pg_sleep(0.001)")
            except Exception as error:  # noqa: BLE001 - any other than UNAVAILABLE is the defect that is looked for
                seen.append(error)

    async def kill():
        for _ in range(20):
            await asyncio.sleep(0.02)
            await killer.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)

    await asyncio.gather(kill(), *(use() for _ in range(8)))
    await killer.close()

    assert seen, "nothing was cut off"
    assert [error for error in seen if not isinstance(error, UNAVAILABLE)] == []
    assert (await few.fetchrow("SELECT 1"))[0] == 1
    await few.close()
