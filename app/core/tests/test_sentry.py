"""Error reports to Sentry, from real processes to a listener that stands in for it."""

import asyncio
import contextlib
import sys
from importlib.metadata import version

import pytest

from app.core.errors import SettingsError
from app.core.load_settings import load_settings
from app.core.telemetry.sentry import MAX_IN_WINDOW, SentryReporter, report_errors
from tests.support import api_and_worker, eventually


async def reported_events(listener):
    return [(report.get("tags") or {}).get("event") for report in listener.reports()]


async def test_errors_of_api_and_worker_are_reported(settings, tmp_path, db, listener):
    dsn = f"http://key@127.0.0.1:{listener.port}/1"
    async with api_and_worker(settings, tmp_path, SENTRY_DSN=dsn) as client:
        media = await client.faulty(hang=True)
        await client.until(media, "PROCESSING")
        await db.execute("ALTER TABLE media RENAME COLUMN prompt TO gone")
        answer = await client.api.get(f"/media/{media['id']}", headers={"Authorization": "Bearer of-a-secret"})

        async def reported():
            return {(report.get("tags") or {}).get("event"): report for report in listener.reports()}

        reports = await eventually(reported, lambda seen: {"request_failed", "runner_error"} <= set(seen))
        await asyncio.sleep(0.5)

    assert answer.status_code == 500
    for report in (reports["request_failed"], reports["runner_error"]):
        raised = report["exception"]["values"][-1]
        assert raised["type"] == "UndefinedColumnError"
        assert not any("vars" in frame for frame in raised["stacktrace"]["frames"])
        assert (report["environment"], report["release"]) == ("local", f"fleek@{version('fleek')}")
    # Not reported again from the log of the web server, and without request headers.
    reported_once = [event for event in await reported_events(listener) if event in {"request_failed", None}]
    assert reported_once == ["request_failed"]
    assert "of-a-secret" not in str(listener.bodies)


def test_repeated_error_is_reported_a_limited_number_of_times():
    class Sentry:
        def __init__(self):
            self.messages = []

        def new_scope(self):
            return contextlib.nullcontext(self)

        def capture_message(self, message, **_more):
            self.messages.append(message)

        def set_tag(self, *_tag):
            pass

        set_context = set_tag

    sentry = Sentry()
    report = SentryReporter(sentry)

    for _ in range(1000):
        report({"event": "database_unavailable", "level": "error"})
    report({"event": "other", "level": "error"})

    assert sentry.messages == [*["database_unavailable"] * MAX_IN_WINDOW, "other"]


def test_invalid_dsn_is_named_in_the_error(monkeypatch):
    monkeypatch.setenv("SENTRY_DSN", "sentry.example/1")

    with pytest.raises(SettingsError, match="SENTRY_DSN"):
        report_errors(load_settings())


def test_sentry_without_its_sdk_says_what_to_install(monkeypatch):
    monkeypatch.setenv("SENTRY_DSN", "https://key@sentry.example/1")
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)

    with pytest.raises(SettingsError, match=r"fleek\[sentry\]"):
        report_errors(load_settings())
