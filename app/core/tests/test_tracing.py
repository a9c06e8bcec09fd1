"""Traces through OpenTelemetry, from real processes to a listener that stands in for a collector."""

import sys

import httpx2
import pytest

from app.core.errors import SettingsError
from app.core.load_settings import load_settings
from app.core.telemetry import tracing
from tests.support import Client, api_and_worker, eventually, served


def attribute(span, name):
    return next((found.value for found in span.attributes if found.key == name), None)


async def test_trace_links_request_job_provider_and_store(settings, tmp_path, listener):
    to_listener = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{listener.port}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with api_and_worker(settings, tmp_path, **to_listener) as client:
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


def test_tracing_without_its_sdk_says_what_to_install(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.delitem(sys.modules, "app.core.telemetry.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)

    with pytest.raises(SettingsError, match=r"fleek\[otel\]"):
        tracing.start(load_settings())


async def test_unreachable_collector_delays_no_request(settings, tmp_path):
    with served(settings, tmp_path / "api.log", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as address:
        async with httpx2.AsyncClient(base_url=address, timeout=5, trust_env=False) as api:
            client = Client(api)
            await eventually(client.answers)
            media = [await client.generate() for _ in range(20)]

    assert len(media) == 20
