"""Cog with callbacks: a real Cog server, the API on a real port, workers that stop and start."""

import asyncio
import json
import signal
import socket
from contextlib import ExitStack, asynccontextmanager
from urllib.parse import urlsplit

import httpx2
import pytest
import uvicorn

from app.core.errors import SettingsError
from app.core.ids import new_id
from app.jobs.callbacks import signing_keys
from app.jobs.callbacks.urls import key_name, secret_part
from app.main import create_app
from app.media_generator.accounts import Account, ProviderSetup
from app.media_generator.callbacks import SentFile
from app.media_generator.cog_media_generator import provider as adapter
from app.media_generator.cog_media_generator.provider import CogMediaGeneratorModel
from app.media_generator.errors import SilentError
from app.media_generator.registry import Registry
from fleek.providers import (
    CallbackRefusedError,
    Canceled,
    Failed,
    OutputError,
    Running,
    Succeeded,
    VoidError,
)
from fleek.testing import open_http
from tests.providers.cog import GOOD, account, health, new_submission
from tests.providers.cog_server import cog_program
from tests.providers.server import Server, respond_with
from tests.support import Client, attempts_of, eventually, pieces

KEY = "knownOnlyToTheContainer"


@asynccontextmanager
async def listening(settings, bell, url, vault, *, port=0, **variables):
    """The API on a real port, where the Cog server calls back, and the provider as in a worker."""
    async with open_http() as http:
        provider = account(url, http, vault, **variables)
        config = uvicorn.Config(
            create_app(settings, bell, Registry([provider])), host="127.0.0.1", port=port, log_level="warning"
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        await eventually(lambda: asyncio.sleep(0, server.started))
        provider.callback_base = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        async with httpx2.AsyncClient(base_url=provider.callback_base, timeout=30, trust_env=False) as api:
            yield Client(api), provider
        server.should_exit = True
        await task


@pytest.fixture
async def api_and_provider(settings, bell, cog_address, vault):
    async with listening(settings, bell, cog_address, vault) as both:
        yield both


async def submitted_attempt(client, media):
    """Its last attempt, once the server has accepted it."""

    async def accepted():
        attempts = await attempts_of(client, media)
        return attempts[-1] if attempts and attempts[-1]["external_id"] else None

    return await eventually(accepted)


async def test_job_completes_through_the_callback(api_and_provider, working):
    client, provider = api_and_provider
    await working(provider)

    good = await client.generate(model="cog/model", input={"width": 90, "count": 2, "delay": 1})
    done = await client.until(good)
    failed = await client.until(await client.generate(model="cog/model", input={"fail": True}))

    assert [file["width"] for file in done["files"]] == [90, 90]
    assert failed["error"]["code"] == "generation_failed"
    assert "simulated failure" in failed["error"]["message"]
    # The stored answer of a result is deleted; that of a failure stays readable.
    (attempt,) = await attempts_of(client, good)
    assert await eventually(lambda: _is_gone(provider, attempt))
    (attempt,) = await attempts_of(client, failed)
    answer = (await client.api.get(f"/media/{failed['id']}/attempts/1/answer")).json()
    assert (answer["status"], answer["id"]) == ("failed", attempt["id"])


async def _is_gone(provider, attempt):
    return await provider._answers.find(attempt["external_id"]) is None


async def test_prediction_survives_worker_restart(api_and_provider, working):
    client, provider = api_and_provider
    first = await working(provider)
    media = await client.generate(model="cog/model", input={"delay": 2})
    await submitted_attempt(client, media)

    await first.stop()
    await working(provider)
    done = await client.until(media)

    assert done["status"] == "COMPLETED"
    assert len(await attempts_of(client, media)) == 1


async def test_cancel_request_stops_a_running_prediction(api_and_provider, working):
    client, provider = api_and_provider
    await working(provider)
    media = await client.generate(model="cog/model", input={"delay": 2})
    await submitted_attempt(client, media)

    await client.api.post(f"/media/{media['id']}/cancel")

    done = await client.until(media)
    assert done["status"] == "CANCELED"
    (attempt,) = await attempts_of(client, media)
    assert await eventually(lambda: _is_gone(provider, attempt))


def test_upload_key_requires_callback_url():
    settings = {"base_url": "http://127.0.0.1:9", "upload_key": KEY}
    with pytest.raises(SettingsError, match="COG_UPLOAD_KEY needs COG_CALLBACK_URL"):
        CogMediaGeneratorModel.open_account(ProviderSetup(Account("cog", settings)))


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_prediction_lost_by_a_container_restart_is_submitted_again(settings, bell, vault, working, tmp_path, end):
    with ExitStack() as stack:
        url, container = stack.enter_context(cog_program(tmp_path))
        async with listening(settings, bell, url, vault) as (client, provider):
            await working(provider)
            media = await client.generate(model="cog/model", input={"delay": 4})
            await submitted_attempt(client, media)
            container.send(end)
            stack.close()
            with cog_program(tmp_path, port=urlsplit(url).port):
                done = await client.until(media)
            lost, _second = await attempts_of(client, media)

    assert done["status"] == "COMPLETED"
    assert lost["error"]["code"] == "purchase_void"


async def test_files_are_uploaded_before_the_answer(settings, bell, vault, working, tmp_path):
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        port = kept.getsockname()[1]
    upload = f"http://127.0.0.1:{port}/media/callbacks/cog/files/{KEY}"
    with cog_program(tmp_path, "--upload-url", upload) as (url, _):
        async with listening(settings, bell, url, vault, port=port, upload_key=KEY) as (client, provider):
            await working(provider)
            media = await client.generate(model="cog/model", input={"width": 90, "count": 2})
            done = await client.until(media)
            (attempt,) = await attempts_of(client, media)
            assert [(file["media_type"], file["width"]) for file in done["files"]] == [("image/png", 90)] * 2
            assert await eventually(lambda: _is_gone(provider, attempt))

            late = await client.api.put(
                f"{upload}/x.png", content=b"x", headers={"X-Prediction-ID": attempt["external_id"]}
            )
            nothing = await client.api.put(f"{upload}/x.png", content=b"x")
    assert (late.status_code, nothing.status_code) == (401, 422)


async def test_file_upload_requires_the_key_and_belongs_to_its_attempt(vault):
    provider = account("http://127.0.0.1:9", None, vault, upload_key=KEY)
    without = account("http://127.0.0.1:9", None, vault)
    attempt_id, other = new_id(), new_id()

    for one, key in ((provider, "guess"), (provider, ""), (without, KEY)):
        with pytest.raises(CallbackRefusedError):
            await one.take_file(SentFile(attempt_id, key, "a.png", pieces(GOOD)))
    name = await provider.take_file(SentFile(attempt_id, KEY, "a.png", pieces(b"hello")))
    answer = {"status": "succeeded", "output": [f"http://x/media/callbacks/cog/files/{name}"]}
    ours = await provider.take_answer(attempt_id, pieces(json.dumps(answer).encode()))
    # A file name of another attempt is treated as a URL; nothing is read from the bucket.
    others = await provider.take_answer(other, pieces(json.dumps(answer).encode()))

    (output,) = (await provider.poll(ours)).outputs
    (elsewhere,) = (await provider.poll(others)).outputs
    assert b"".join([chunk async for chunk in provider.open(output)]) == b"hello"
    assert elsewhere.location == answer["output"][0]
    await provider.settled(ours)
    with pytest.raises(OutputError):
        [chunk async for chunk in provider.open(output)]


async def test_callback_requires_the_secret_of_its_attempt(api_and_provider, working, db, vault):
    client, provider = api_and_provider
    await working(provider)
    media = await client.generate(model="cog/model", input={"delay": 3})
    attempt = await submitted_attempt(client, media)
    (key,) = await signing_keys.keys_of(db, key_name("cog"))
    other = new_id()

    async def call(path):
        return (await client.api.post(f"/media/callbacks/{path}", content=GOOD)).status_code

    assert await call(f"cog/{attempt['external_id']}") == 401
    assert await call(f"cog/{attempt['external_id']}/guess") == 401
    assert await call(f"cog/{attempt['external_id']}/{secret_part(key, other)}") == 401
    assert await call(f"dummy/{attempt['external_id']}/guess") == 404
    # The secret is right, but no such attempt expects an answer.
    assert await call(f"cog/{other}/{secret_part(key, other)}") == 204
    assert await vault.find(other) is None
    assert await vault.find(attempt["external_id"]) is None
    assert (await client.until(media))["files"][0]["media_type"] == "image/png"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"upload_key": "abc"}, "COG_UPLOAD_KEY: must have 16 characters or more"),
        ({"callback_url": "fleek:8000"}, "COG_CALLBACK_URL: must begin with http:// or https:// and name a host"),
        ({"concurrency": "many"}, "COG_CONCURRENCY: "),
    ],
)
def test_invalid_setting_names_variable_and_fix(vault, variables, message):
    with pytest.raises(SettingsError, match=f"^{message}"):
        account("http://127.0.0.1:9", None, vault, **variables)


async def test_progress_callback_is_not_stored_as_an_answer(vault):
    provider = account("http://127.0.0.1:9", None, vault)
    at_work = new_id()

    assert await provider.take_answer(at_work, pieces(b'{"id": "x", "logs": "", "status": "processing"}')) is None
    assert await vault.find(at_work) is None


async def test_too_long_answer_fails_the_job(vault):
    provider = account("http://127.0.0.1:9", None, vault)
    provider._answers._most_bytes = 200
    reference = await provider.take_answer(new_id(), pieces(b'{"output": "' + b"a" * 500 + b'"}'))

    outcome = await provider.poll(reference)

    assert isinstance(outcome, Failed)
    assert "longer than 200 bytes" in outcome.error.message


async def test_canceled_prediction_is_canceled(vault):
    provider = account("http://127.0.0.1:9", None, vault)
    reference = await provider.take_answer(new_id(), pieces(b'{"status": "canceled"}'))

    assert isinstance(await provider.poll(reference), Canceled)


async def test_server_health_decides_the_outcome_without_a_callback(vault, monkeypatch):
    async with Server() as server, open_http() as http:
        server.answers |= {"/predictions": respond_with(b"{}", status=202), "/health-check": health()}
        provider = account(server.url, http, vault)
        submission = new_submission()
        reference = await provider.submit(submission)

        assert isinstance(await provider.poll(reference), Running)
        server.answers["/health-check"] = health("BUSY")
        assert isinstance(await provider.poll(reference), Running)
        server.answers["/health-check"] = health()
        assert isinstance(await provider.poll(reference), Running)
        monkeypatch.setattr(adapter, "IDLE_SECONDS", 0.0)
        idle = await provider.poll(reference)
        server.answers["/health-check"] = health("BUSY", "second")
        lost = await provider.poll(reference)
        await provider.take_answer(submission.attempt_id, pieces(GOOD))
        found = await provider.poll(reference)

    assert isinstance(idle, Failed)
    assert isinstance(idle.error, SilentError)
    assert "http://api.test" in idle.error.message
    assert isinstance(lost, Failed)
    assert isinstance(lost.error, VoidError)
    assert isinstance(found, Succeeded)


async def test_idle_slot_is_no_evidence_with_several_slots(vault, monkeypatch):
    monkeypatch.setattr(adapter, "IDLE_SECONDS", 0.0)
    async with Server() as server, open_http() as http:
        server.answers |= {"/predictions": respond_with(b"{}", status=202), "/health-check": health()}
        provider = account(server.url, http, vault, concurrency="2")
        reference = await provider.submit(new_submission())

        assert isinstance(await provider.poll(reference), Running)
