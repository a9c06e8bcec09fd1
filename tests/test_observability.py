"""Traces and error reports, from real processes to a listener that stands for collector and Sentry."""

import asyncio
import contextlib
import subprocess
import sys
from importlib.metadata import version

import httpx2
import pytest

from app.core.database.migrations import ROOT
from app.core.errors import SettingsError
from app.core.load_settings import load_settings
from app.core.telemetry import tracing
from app.core.telemetry.sentry import MOST_IN_WINDOW, Alarm, report_errors
from tests.listener import Listener
from tests.support import Client, eventually, served, worker


@pytest.fixture
def listener():
    with Listener() as listening:
        yield listening


@contextlib.asynccontextmanager
async def whole(settings, tmp_path, **changes):
    """The API and a worker in processes of their own."""
    with (
        served(settings, tmp_path / "api.log", **changes) as address,
        worker(settings, tmp_path / "worker.log", **changes),
    ):
        async with httpx2.AsyncClient(base_url=address, timeout=30) as api:
            client = Client(api)
            await eventually(client.answers)
            yield client


def attribute(span, name):
    return next((found.value for found in span.attributes if found.key == name), None)


async def test_a_trace_leads_from_the_request_over_the_queue_to_provider_and_store(settings, tmp_path, listener):
    endpoint = f"http://127.0.0.1:{listener.port}"
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with whole(settings, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_BSP_SCHEDULE_DELAY="100") as client:
        answer = await client.api.post("/media/generate", json={"prompt": "x"}, headers={"traceparent": caller})
        media = await client.until(answer.json())

        def sent(name):
            return [span for span in listener.spans() if span.name == name]

        async def at_work():
            return sent("generate media")

        await eventually(at_work)
    [request], [job] = sent("POST /media/generate"), sent("generate media")
    children = {span.name: span for span in listener.spans() if span.parent_span_id == job.span_id}

    assert media["status"] == "COMPLETED"
    assert request.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert request.parent_span_id.hex() == "b7ad6b7169203331"
    assert [(link.trace_id, link.span_id) for link in job.links] == [(request.trace_id, request.span_id)]
    assert job.trace_id != request.trace_id
    assert {"provider submit", "provider poll", "store output"} <= set(children)
    assert attribute(request, "http.response.status_code").int_value == 202
    for span in (request, job):
        assert attribute(span, "fleek.media_id").string_value == media["id"]
        assert attribute(span, "fleek.model").string_value == "dummy/painter"
    assert attribute(job, "fleek.attempt").int_value == 1
    assert attribute(children["provider submit"], "fleek.provider").string_value == "dummy"


def test_without_an_endpoint_nothing_of_it_is_loaded():
    # The API package itself comes with FastAPI.
    parts = (
        "app.core.telemetry.otel",
        "opentelemetry.sdk",
        "opentelemetry.exporter",
        "opentelemetry.proto",
        "sentry_sdk",
    )
    script = f"import sys, app.main, app.tasks.worker; print([name for name in {parts} if name in sys.modules])"

    seen = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert seen.stdout.strip() == "[]"


def test_the_api_loads_nothing_that_only_workers_need():
    parts = ("celery", "numpy", "PIL", "aiohttp", "sqlalchemy")
    script = f"import sys, app.main; print([name for name in {parts} if name in sys.modules])"

    seen = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert seen.stdout.strip() == "[]"


def test_traces_without_the_sdk_say_what_to_install(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.delitem(sys.modules, "app.core.telemetry.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)

    with pytest.raises(SettingsError, match=r"fleek\[otel\]"):
        tracing.begin(load_settings())


async def test_a_collector_that_is_away_holds_up_nobody(settings, tmp_path):
    with served(settings, tmp_path / "api.log", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as address:
        async with httpx2.AsyncClient(base_url=address, timeout=5) as api:
            client = Client(api)
            await eventually(client.answers)
            media = [await client.generate() for _ in range(20)]

    assert len(media) == 20


async def test_errors_of_api_and_worker_are_reported(settings, tmp_path, db, listener):
    dsn = f"http://key@127.0.0.1:{listener.port}/1"
    async with whole(settings, tmp_path, SENTRY_DSN=dsn) as client:
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
    # Neither twice, by us and by the server's own log, nor with what is nobody's business.
    assert [event for event in await seen_events(listener) if event in {"request_failed", None}] == ["request_failed"]
    assert "of-a-secret" not in str(listener.bodies)


async def seen_events(listener):
    return [(report.get("tags") or {}).get("event") for report in listener.reports()]


def test_an_outage_is_not_reported_for_each_request():
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
    alarm = Alarm(sentry)

    for _ in range(1000):
        alarm({"event": "database_unavailable", "level": "error"})
    alarm({"event": "other", "level": "error"})

    assert sentry.messages == [*["database_unavailable"] * MOST_IN_WINDOW, "other"]


def test_what_is_no_dsn_is_named(monkeypatch):
    monkeypatch.setenv("SENTRY_DSN", "sentry.example/1")

    with pytest.raises(SettingsError, match="SENTRY_DSN"):
        report_errors(load_settings())
