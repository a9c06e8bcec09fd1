"""Hostile or buggy providers: invalid metadata never loses a result that was paid for."""

import asyncio
import hmac
from base64 import b64decode, b64encode
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from app.core.http_client.client import HttpClient
from app.core.http_client.protocol import Request
from app.core.ids import new_id
from app.jobs.execution.failures import LONGEST_MESSAGE
from app.media_generator.adapter_calls import MAX_OUTPUTS
from app.media_generator.adapter_kit.http import download
from app.media_generator.adapter_kit.standard_webhooks import verify
from app.media_generator.callbacks import Callback, CallbackRefusedError
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.errors import GenerationFailedError, OutputError
from app.media_generator.media_generator_model import Failed, Succeeded
from tests.providers.server import Server, respond_with

HUGE = 10**400


class ChangesResults(DummyMediaGeneratorModel):
    """Changes its results as the test says."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    async def poll(self, reference):
        outcome = await super().poll(reference)
        return self.change(outcome) if isinstance(outcome, Succeeded) else outcome


@pytest.mark.parametrize(
    "fields",
    [
        {"units": {"second": HUGE}},
        {"units": {"a\x00": 1.0, "\ud800": 1.0}},
        {"units": None},
        {"units": [1]},
        {"cost": "dear"},
        {"cost": [1]},
        {"cost": Decimal("sNaN")},
        {"cost": HUGE},
        {"log": 7},
        {"log": ["a"]},
    ],
    ids=repr,
)
async def test_invalid_metadata_does_not_fail_a_result(client, working, fields):
    await working(ChangesResults(lambda outcome: replace(outcome, **fields)))

    done = await client.until(await client.faulty())

    assert (done["status"], len(done["files"])) == ("COMPLETED", 1), done["error"]


async def test_number_of_outputs_is_limited(client, working):
    await working(ChangesResults(lambda outcome: replace(outcome, outputs=outcome.outputs * (MAX_OUTPUTS + 2))))

    done = await client.until(await client.faulty(size=1_000))

    assert (done["status"], len(done["files"])) == ("COMPLETED", MAX_OUTPUTS)
    (warning,) = done["warnings"]
    assert warning["code"] == "outputs_left_out"
    assert str(MAX_OUTPUTS) in warning["message"]
    assert str(MAX_OUTPUTS + 2) in warning["message"]


class StallingDownload(DummyMediaGeneratorModel):
    """The first download delivers one byte at a time and never ends."""

    def __init__(self):
        super().__init__()
        self.opened = 0

    async def open(self, output):
        self.opened += 1
        first = self.opened == 1
        async for chunk in super().open(output):
            yield chunk[:1] if first else chunk
        while first:
            await asyncio.sleep(0.01)
            yield b"x"


async def test_stalling_download_is_cut_off_and_repeated(client, working):
    provider = StallingDownload()
    await working(provider, output_copy_seconds=2.0, output_copies=1)

    done = await client.until(await client.faulty())

    assert (done["status"], provider.opened) == ("COMPLETED", 2)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_None", "whsec_AAAA", "no base64"])
def test_guessable_webhook_key_is_refused(secret):
    now, key = datetime.now(UTC), secret.removeprefix("whsec_")
    stamp = str(int(now.timestamp()))
    guessed = b64decode(key) if len(key) % 4 == 0 else key.encode()
    signature = b64encode(hmac.digest(guessed, f"1.{stamp}.{{}}".encode(), "sha256")).decode()
    names = {"webhook-id": "1", "webhook-timestamp": stamp, "webhook-signature": f"v1,{signature}"}

    with pytest.raises(CallbackRefusedError, match="the key to verify it with"):
        verify(Callback(new_id(), names, b"{}", now), [secret])


async def test_long_error_message_is_truncated(client, working):
    await working(ChangesResults(lambda _: Failed(GenerationFailedError("x" * 1_000_000))))

    done = await client.until(await client.faulty())

    assert len(done["error"]["message"]) < LONGEST_MESSAGE + 100


@pytest.mark.parametrize("target", ["other", "http://["])
async def test_redirect_of_a_private_server_to_another_private_address_is_refused(target):
    client = HttpClient(allow_private_addresses=False)
    async with Server() as own, Server() as other:
        other.answers["/"] = respond_with(b"inside")
        location = f"{other.url}/" if target == "other" else target
        own.answers["/away"] = respond_with(b"", status=302, Location=location)
        own.answers["/here"] = respond_with(b"", status=302, Location="/result")
        own.answers["/result"] = respond_with(b"a result")

        async def fetched(path):
            request = Request(method="GET", url=own.url + path, guarded=False)
            return b"".join([chunk async for chunk in download(client, request, provider="own")])

        assert await fetched("/here") == b"a result"
        with pytest.raises(OutputError):
            await fetched("/away")
        assert other.requests == []
    await client.close()
