"""`fleek db` and `fleek store` as an operator runs them."""

import asyncio
import csv
import json
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import obstore
import pytest

from app.cli.checks.bucket import PROBE
from app.core.database.migrations import newest_revision
from app.core.ids import new_id
from app.jobs.transitions.request import request
from app.storage.s3 import S3Store
from tests.fleek_cli import NOWHERE
from tests.support import dsn_of, environment_of, make_settings, migrate, new_media, on_server


@pytest.fixture
async def unmigrated(engines, base_settings):
    """Settings with an empty database."""
    await on_server(base_settings, "CREATE DATABASE never_migrated")
    yield make_settings(engines, database_url=dsn_of(base_settings, "never_migrated"))
    await on_server(base_settings, "DROP DATABASE never_migrated WITH (FORCE)")


def checks_of(done):
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


async def test_upgrade_reports_the_revision_before_and_after(unmigrated, cli):
    newest = newest_revision()
    first = await cli("db", "upgrade", **environment_of(unmigrated))
    repeated = await cli("db", "upgrade", "--json", **environment_of(unmigrated))

    assert (first.returncode, first.stdout) == (
        0,
        f"The schema was migrated from an empty database to revision {newest}.\n",
    )
    assert json.loads(repeated.stdout) == {"from": newest, "to": newest}


async def test_upgrade_stops_waiting_for_an_unreachable_database(cli):
    done = await cli("db", "upgrade", "--wait", "0.6", "--json", **NOWHERE)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "fleek: Waiting: the database does not answer (ConnectionRefusedError)",
        "fleek: the database does not answer (ConnectionRefusedError)",
    ]


async def test_schema_of_a_newer_release_is_left_unchanged(db, cli):
    await db.execute("UPDATE alembic_version SET version_num = 'from_the_future'")
    upgraded = await cli("db", "upgrade")
    checked = checks_of(await cli("db", "check", "--json"))

    assert (upgraded.returncode, upgraded.stdout) == (1, "")
    assert upgraded.stderr == (
        "fleek: the database is at revision from_the_future of a newer release; nothing was changed\n"
    )
    assert (checked["revision"]["ok"], "schema" in checked) == (True, False)
    assert checked["revision"]["detail"].startswith("at revision from_the_future of a newer release")


async def test_failed_migration_is_reported_in_one_line(database, db, cli):
    await asyncio.to_thread(migrate, database, "0005", down=True)
    await db.execute("ALTER TABLE attempts ADD COLUMN called_back boolean")

    done = await cli("db", "upgrade")

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("fleek: the migration failed: ")
    assert 'column "called_back" of relation "attempts" already exists' in done.stderr


async def test_database_check_passes_and_detects_a_missing_index(db, cli):
    good = await cli("db", "check")
    await db.execute("DROP INDEX ix_media_due")
    changed = await cli("db", "check", "--json")

    assert [line.split()[:2] for line in good.stdout.splitlines()] == [
        ["ok", name] for name in ("database", "writable", "encoding", "revision", "schema")
    ]
    assert (good.returncode, changed.returncode) == (0, 1)
    assert [name for name, check in checks_of(changed).items() if not check["ok"]] == ["schema"]
    assert "ix_media_due" in checks_of(changed)["schema"]["detail"]


async def test_database_check_detects_an_old_schema_and_a_read_only_database(base_settings, database, cli):
    await asyncio.to_thread(migrate, database, "0004", down=True)
    await on_server(
        base_settings, f"ALTER DATABASE {database.rpartition('/')[2]} SET default_transaction_read_only = on"
    )

    done = await cli("db", "check", "--json")
    listed = await cli("jobs", "pause")

    failed = {name: check["hint"] for name, check in checks_of(done).items() if not check["ok"]}
    assert failed.keys() == {"writable", "revision"}
    assert "fleek db upgrade" in failed["revision"]
    assert (listed.returncode, listed.stderr.endswith(": run fleek db upgrade\n")) == (1, True)


async def test_unreachable_database_is_one_failed_check(cli):
    done = await cli("db", "check", **NOWHERE)

    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "FAIL  database  the database does not answer (ConnectionRefusedError)",
        "                -> is PostgreSQL running, and are DATABASE_URL or POSTGRES_* correct?",
    ]


async def test_log_of_marks_is_csv_or_a_json_object_a_line(db, cli):
    media = new_media()
    await request(db, media)
    values = (new_id(), media.id, datetime(2026, 11, 1, tzinfo=UTC))
    insert = (
        "INSERT INTO files (id, media_id, index, key, media_type, bytes, sha256, source_sha256, provenance, created_at)"
        """ VALUES ($1, $2, 0, 'a,b', 'image/png', 3, 'ff', 'ee', '{"mark": "marked", "tool": "Fleek 1"}', $3)"""
    )
    await db.execute(insert, *values)

    as_csv, as_json = await cli("store", "marks"), await cli("store", "marks", "--json", "--since", "2026-10-31")
    none, wrong = await cli("store", "marks", "--until", "2026-10-31"), await cli("store", "marks", "--json", "--csv")

    (row,) = csv.DictReader(as_csv.stdout.splitlines())
    shown = json.loads(as_json.stdout)
    for found in (row, shown):
        assert (found["key"], found["sha256"], found["source_sha256"]) == ("a,b", "ff", "ee")
        assert (found["model"], found["mark"], found["tool"]) == (media.model, "marked", "Fleek 1")
    assert len(none.stdout.splitlines()) == 1
    assert wrong.returncode == 2


async def test_bucket_check_passes_and_leaves_no_object_behind(settings, cli):
    done = await cli("store", "check", "--json")

    assert done.returncode == 0
    assert list(checks_of(done)) == ["bucket", "write", "read", "signed URL", "private", "delete"]
    assert all(check["ok"] for check in checks_of(done).values())
    assert obstore.list(S3Store(settings)._objects, prefix="fleek-check/").collect() == []


@pytest.mark.parametrize(
    ("change", "name", "hint"),
    [
        ({"BUCKET_NAME": "nobody-made-it"}, "bucket", "run fleek prepare"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "write", "AWS_SECRET_ACCESS_KEY does not belong"),
        ({"AWS_ACCESS_KEY_ID": "wrong"}, "write", "the store does not know AWS_ACCESS_KEY_ID"),
        ({"S3_PUBLIC_URL": "http://127.0.0.1:1"}, "signed URL", "S3_PUBLIC_URL must be the address"),
        ({"S3_ENDPOINT_URL": "http://127.0.0.1:1"}, "bucket", "check S3_ENDPOINT_URL"),
    ],
)
async def test_failed_bucket_check_gives_a_hint(template, change, name, hint, cli):
    done = await cli("store", "check", "--json", **change)

    check = checks_of(done)[name]
    assert (done.returncode, check["ok"]) == (1, False)
    assert check["hint"].startswith(hint)


@contextmanager
def public_bucket():
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


async def test_publicly_readable_bucket_is_detected(template, cli):
    with public_bucket() as address:
        done = await cli("store", "check", "--json", S3_PUBLIC_URL=address)

    failed = [name for name, check in checks_of(done).items() if not check["ok"]]
    assert failed == ["private"]
