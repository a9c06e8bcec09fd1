"""Submitting to the Images API: what each answer means for the money, and answers that are lost."""

from datetime import timedelta

import pytest

from app.core.ids import new_id
from app.media_generator.accounts import Account, ProviderSetup
from app.media_generator.errors import (
    AnswerLostError,
    BusyError,
    ContentRefusedError,
    CreditError,
    InputRefusedError,
    ModelGoneError,
    NotReachedError,
    Sent,
    UnauthorizedError,
)
from app.media_generator.media_generator_model import Output, Succeeded
from app.media_generator.openai_media_generator.provider import OpenAIMediaGeneratorModel
from tests.providers.openai import answer_with, base64_of, bytes_of, new_submission, picture
from tests.providers.server import Server, respond_with, truncated_response


@pytest.mark.parametrize(
    ("status", "error", "kind", "sent"),
    [
        (400, {"code": "moderation_blocked"}, ContentRefusedError, Sent.NO),
        (400, {"code": "content_policy_violation"}, ContentRefusedError, Sent.NO),
        (400, {"code": "unknown_parameter"}, InputRefusedError, Sent.NO),
        (400, {"code": "billing_hard_limit_reached"}, CreditError, Sent.NO),
        (401, {"code": "invalid_api_key"}, UnauthorizedError, Sent.NO),
        (402, {}, CreditError, Sent.NO),
        (403, {}, UnauthorizedError, Sent.NO),
        (404, {"code": "model_not_found"}, ModelGoneError, Sent.NO),
        (409, {}, AnswerLostError, Sent.UNKNOWN),
        (413, {}, InputRefusedError, Sent.NO),
        (422, {}, InputRefusedError, Sent.NO),
        (429, {"code": "rate_limit_exceeded"}, BusyError, Sent.NO),
        (429, {"code": "insufficient_quota"}, CreditError, Sent.NO),
        (501, {}, AnswerLostError, Sent.UNKNOWN),
        (503, {}, AnswerLostError, Sent.UNKNOWN),
        (408, {}, AnswerLostError, Sent.UNKNOWN),
        (500, {}, AnswerLostError, Sent.UNKNOWN),
        (500, {"code": "moderation_blocked"}, AnswerLostError, Sent.UNKNOWN),
        (502, {}, AnswerLostError, Sent.UNKNOWN),
        (504, {}, AnswerLostError, Sent.UNKNOWN),
    ],
)
async def test_each_refusal_maps_to_an_error_and_sent_state(aimock, make, status, error, kind, sent):
    provider = make(base_url=f"{aimock.url}/v1")
    prompt = f"refused {new_id()}"
    await aimock.answers(prompt, {"error": {"message": "told you so", **error}, "status": status})

    with pytest.raises(kind) as refused:
        await provider.submit(new_submission(prompt, "images"))

    assert type(refused.value) is kind
    assert refused.value.sent is sent
    assert "told you so" in refused.value.message
    assert len(await aimock.arrived("POST", "/v1/images/generations", prompt)) == 1


async def test_busy_error_carries_retry_after(aimock, make):
    provider = make(base_url=f"{aimock.url}/v1")
    await aimock.answers("in a hurry", {"error": {"message": "slow down"}, "status": 429, "retryAfter": 7})

    with pytest.raises(BusyError) as busy:
        await provider.submit(new_submission("in a hurry", "images"))

    assert busy.value.retry_after == timedelta(seconds=7)


async def test_connection_dropped_after_acceptance_is_unknown_and_sent_once(aimock, make):
    provider = make(base_url=f"{aimock.url}/v1")
    response = {"images": [{"b64Json": base64_of(picture())}]}
    await aimock.answers("a dropped call", response, chaos={"disconnectRate": 1})

    with pytest.raises(AnswerLostError) as lost:
        await provider.submit(new_submission("a dropped call", "images"))

    assert lost.value.sent is Sent.UNKNOWN
    assert len(await aimock.arrived("POST", "/v1/images/generations", "a dropped call")) == 1


async def test_timeout_after_acceptance_is_unknown(make, server):
    server.answers["/v1/"] = server.silence
    provider = make("lab", base_url=f"{server.url}/v1", submit_timeout="1")

    with pytest.raises(AnswerLostError):
        await provider.submit(new_submission(model="images"))

    assert len(server.requests) == 1


@pytest.mark.parametrize("size", [1000, 12_000_000], ids=["small", "in parts"])
async def test_truncated_answer_is_unknown_and_not_stored(lab, server, vault, size):
    body = b'{"data": [{"b64_json": "' + b"A" * size
    server.answers["/v1/"] = truncated_response(body, promised=size * 2)
    submission = new_submission(model="sdxl")

    with pytest.raises(AnswerLostError):
        await lab.submit(submission)

    with pytest.raises(FileNotFoundError):
        await anext(vault.open(f"answers/{submission.attempt_id}"))


@pytest.mark.parametrize("body", [b"", b'{"data": [{"b64_json": "AAAA', b"<html>"], ids=["empty", "half", "page"])
async def test_incomplete_json_answer_is_unknown(lab, server, body):
    server.answers["/v1/"] = respond_with(body)

    with pytest.raises(AnswerLostError):
        await lab.submit(new_submission(model="sdxl"))


async def test_refused_connection_is_not_sent(make):
    async with Server() as gone:
        url = gone.url

    with pytest.raises(NotReachedError) as error:
        await make("lab", base_url=f"{url}/v1").submit(new_submission(model="images"))

    assert error.value.sent is Sent.NO


class BrokenStore:
    """A store that is down."""

    async def keep(self, attempt_id, chunks):
        async for _ in chunks:
            pass
        raise OSError("the store is down")

    async def open(self, name):
        raise OSError("the store is down")
        yield b""

    async def drop(self, name):
        raise OSError("the store is down")


async def test_store_outage_loses_no_purchase(http, server, lab):
    server.answers["/v1/"] = respond_with(answer_with(picture()))
    reference = await lab.submit(new_submission(model="sdxl"))
    account = Account("lab", {"base_url": f"{server.url}/v1"})
    cut_off = OpenAIMediaGeneratorModel.open_account(ProviderSetup(account, http, (), BrokenStore()))

    with pytest.raises(AnswerLostError):
        await cut_off.submit(new_submission(model="images"))
    with pytest.raises(NotReachedError):
        await cut_off.poll(reference)
    with pytest.raises(NotReachedError):
        await bytes_of(cut_off, Output(f"{reference.data['answer']}#0-4"))
    assert isinstance(await lab.poll(reference), Succeeded)
