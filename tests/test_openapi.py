"""The API's documentation is complete: a fuzzer finds no answer that it does not describe, and no 5xx."""

import asyncio
import subprocess
import sys

import httpx2
import pytest

from tests.support import eventually, served, worker


@pytest.mark.timeout(900)
async def test_schemathesis_finds_no_undocumented_answer(settings, tmp_path):
    with served(settings, tmp_path / "api.log") as address, worker(settings, tmp_path / "worker.log"):
        async with httpx2.AsyncClient(base_url=address, trust_env=False) as api:

            async def ready():
                try:
                    return (await api.get("/tools/celery_status")).status_code == 200
                except httpx2.TransportError:
                    return False

            await eventually(ready)
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json"),
            *("--max-examples", "12", "--workers", "1", "--seed", "20261122", "--generation-database", "none"),
            # A stream has no end to wait for; app/media/tests/test_event_streams.py reads them.
            *("--exclude-path", "/media/events"),
            *(
                "--checks",
                "all",
                "--exclude-checks",
                "positive_data_acceptance",
                "--request-timeout",
                "20",
                "--no-color",
            ),
        ]
        found = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, cwd=tmp_path, timeout=800, check=False
        )

    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]


async def test_every_operation_has_a_summary_and_its_errors_are_problems(client):
    document = (await client.api.get("/openapi.json")).json()

    assert "Problem" in document["components"]["schemas"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            for status, response in operation["responses"].items():
                if status >= "400":
                    assert list(response["content"]) == ["application/problem+json"], (method, path, status)


async def test_webhooks_are_described(client):
    document = (await client.api.get("/openapi.json")).json()

    assert {"media.completed", "media.failed", "webhook.test"} <= set(document["webhooks"])
    event = document["components"]["schemas"]["MediaEventOut"]
    assert set(event["properties"]) == {"type", "timestamp", "sequence", "data", "omitted"}


async def test_the_documentation_page_needs_nothing_from_elsewhere(client):
    page = await client.api.get("/docs")
    root = await client.api.get("/")

    assert (root.status_code, root.headers["location"]) == (307, "/docs")
    assert page.status_code == 200
    assert "https://" not in page.text
    for part in ("/docs/assets/swagger-ui-bundle.js", "/docs/assets/swagger-ui.css"):
        assert part in page.text
        assert (await client.api.get(part)).status_code == 200
