"""The product behind a forward proxy: what goes through it, and what never does, in real processes."""

import asyncio
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import pytest

from tests.forward_proxy import forward_proxy
from tests.listener import Listener
from tests.providers.openai import answer_with, picture
from tests.providers.server import Server, respond_with
from tests.support import api_and_worker, eventually

PASSWORD = "p4ssw0rd-of-the-Proxy"
ENVIRONMENT = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
PROVIDER = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": "http://provider.example/v1", "OPENAI_MODELS": "sdxl"}
HOSTS = {"provider.example", "files.example", "hooks.example"}


@pytest.fixture
async def others():
    """Everybody else: a provider, a host of pictures, a receiver of webhooks."""
    server = Server()
    server.answers["/v1/images"] = respond_with(answer_with(picture()))
    server.answers["/in.png"] = respond_with(picture("png"))
    server.answers["/hook"] = respond_with(b"", status=204)
    async with server:
        yield server


def hosts_of(asked):
    return {urlsplit(target).hostname or target.rpartition(":")[0] for _, target in asked}


async def one_job(client, others, files="http://files.example", hooks="http://hooks.example"):
    """From a file of the caller's through provider and store to the caller's webhook."""
    media = await client.generate(
        model="openai/sdxl", input={"image": [f"{files}/in.png"]}, webhook_url=f"{hooks}/hook"
    )
    done = await client.until(media)

    async def called():
        return [request.path for request in others.requests if request.path == "/hook"]

    await eventually(called)
    assert done["status"] == "COMPLETED", done


@pytest.mark.parametrize("by", ["setting", "environment"])
async def test_calls_to_others_go_through_the_proxy_and_none_to_the_engines(settings, others, tmp_path, by):
    port = urlsplit(others.url).port
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(Listener())
        proxy = await stack.enter_async_context(forward_proxy(leads_to=port, password=PASSWORD))
        decoy = await stack.enter_async_context(forward_proxy(leads_to=port))
        with_password = proxy.url.replace("://", f"://me:{PASSWORD}@")
        variables = {
            **dict.fromkeys(ENVIRONMENT, decoy.url if by == "setting" else with_password),
            **({"OUTGOING_PROXY": with_password} if by == "setting" else {}),
            "ALLOW_PRIVATE_ADDRESSES": "true",  # the names are known to the proxy alone
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{listener.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "SENTRY_DSN": f"http://key@127.0.0.1:{listener.port}/1",
        }
        async with api_and_worker(settings, tmp_path, **PROVIDER, **variables) as client:
            ready = await client.api.get("/tools/ready")
            await one_job(client, others)

            async def traced():
                return listener.spans()

            await eventually(traced)

    assert ready.status_code == 200, ready.text
    assert hosts_of(proxy.passed) == HOSTS
    assert (proxy.refused, decoy.heads) == ([], [])
    for request in others.requests:
        assert not [name for name in request.headers if name.startswith("proxy-")], request
    logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert PASSWORD not in logs


@pytest.mark.parametrize("setting", [{}, {"OUTGOING_PROXY": "off"}])
async def test_what_listens_on_this_machine_is_never_asked_through_the_proxy(settings, others, tmp_path, setting):
    async with forward_proxy(leads_to=urlsplit(others.url).port) as proxy:
        variables = {
            **PROVIDER,
            **dict.fromkeys(ENVIRONMENT, proxy.url),
            **setting,
            "OPENAI_BASE_URL": f"{others.url}/v1",
            "ALLOW_PRIVATE_ADDRESSES": "true",
        }
        async with api_and_worker(settings, tmp_path, **variables) as client:
            await one_job(client, others, others.url, others.url)

    assert proxy.heads == []


@pytest.mark.parametrize(("status", "final", "sent"), [(407, "ERROR", "NO"), (503, "ERROR", "UNKNOWN")])
async def test_purchase_that_a_proxy_refuses_is_free_only_where_it_proves_so(
    settings, others, tmp_path, status, final, sent
):
    async with forward_proxy(leads_to=urlsplit(others.url).port) as proxy:
        proxy.answers = status
        variables = {**PROVIDER, "OUTGOING_PROXY": proxy.url, "MAX_TRIES": "2", "RECONCILE_SECONDS": "0"}
        async with api_and_worker(settings, tmp_path, **variables) as client:
            media = await client.generate(model="openai/sdxl")
            async with asyncio.timeout(60):
                done = await client.until(media)
            attempts = (await client.api.get(f"/media/{media['id']}/attempts")).json()["items"]

    assert done["status"] == final
    assert {attempt["sent"] for attempt in attempts} == {sent}
    assert len(attempts) == (2 if sent == "NO" else 1)
    assert others.requests == []
