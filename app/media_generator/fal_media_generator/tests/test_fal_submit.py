"""Submitting to fal: the request that is sent, and what each answer means for the money."""

import asyncio
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from aiohttp import web

from app.core.errors import SettingsError
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
from app.media_generator.fal_media_generator.provider import FalMediaGeneratorModel
from app.media_generator.media_generator_model import Reference
from tests.providers.fal import PROMPT, SCHNELL, new_submission, respond_json
from tests.providers.server import Server, respond_with, truncated_response


async def test_submit_sends_input_callback_url_and_deadline(provider, server):
    server.answers["/fal-ai/"] = respond_json(request_id="req-1")
    submission = new_submission(
        given={"num_images": 2}, callback_url="https://api.test/cb/fal/1", time_left=timedelta(seconds=90.7)
    )

    reference = await provider.submit(submission)

    (came,) = server.requests
    where = urlsplit(came.path)
    assert (came.method, where.path) == ("POST", f"/{SCHNELL}")
    (webhook,) = parse_qs(where.query)["fal_webhook"]
    assert parse_qs(urlsplit(webhook).query) == {"model": [SCHNELL]}
    assert webhook.startswith("https://api.test/cb/fal/1?")
    assert msgspec.json.decode(came.body) == {"prompt": PROMPT, "num_images": 2}
    assert came.headers["authorization"] == "Key id:secret"
    assert (came.headers["x-fal-no-retry"], came.headers["x-fal-request-timeout"]) == ("1", "90")
    assert reference == Reference("req-1", {"model": SCHNELL})


async def test_gateway_error_message_is_unwrapped(provider, server):
    server.answers["/fal-ai/"] = respond_with(b'{"error": {"message": "Not found", "type": "not_found"}}', status=404)

    with pytest.raises(ModelGoneError, match=r"^fal answered 404: Not found$"):
        await provider.submit(new_submission())


@pytest.mark.parametrize(
    ("status", "detail", "kind", "sent"),
    [
        (400, "bad", InputRefusedError, Sent.NO),
        (401, "no key", UnauthorizedError, Sent.NO),
        (402, "pay", CreditError, Sent.NO),
        (403, "User is locked. Reason: Exhausted balance.", CreditError, Sent.NO),
        (403, "not yours", UnauthorizedError, Sent.NO),
        (404, "no such app", ModelGoneError, Sent.NO),
        (413, "too long", InputRefusedError, Sent.NO),
        (422, [{"loc": ["body", "seed"], "msg": "not a number", "type": "int_type"}], InputRefusedError, Sent.NO),
        (422, [{"msg": "flagged", "type": "content_policy_violation"}], ContentRefusedError, Sent.NO),
        (429, "slow down", BusyError, Sent.NO),
        (503, "later", AnswerLostError, Sent.UNKNOWN),
        (409, "odd", AnswerLostError, Sent.UNKNOWN),
        (408, "late", AnswerLostError, Sent.UNKNOWN),
        (500, "oops", AnswerLostError, Sent.UNKNOWN),
        (502, "", AnswerLostError, Sent.UNKNOWN),
        (504, "", AnswerLostError, Sent.UNKNOWN),
    ],
)
async def test_each_refusal_maps_to_an_error_and_sent_state(provider, server, status, detail, kind, sent):
    body = msgspec.json.encode({"detail": detail})
    server.answers["/fal-ai/"] = respond_with(body, status=status, Retry_After="9")

    with pytest.raises(kind) as refused:
        await provider.submit(new_submission())

    assert type(refused.value) is kind
    assert refused.value.sent is sent
    assert len(server.requests) == 1
    if kind is BusyError:
        assert refused.value.retry_after == timedelta(seconds=9)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"queue_position": 1}'])
async def test_answer_without_request_id_is_unknown(provider, server, body):
    server.answers["/fal-ai/"] = respond_with(body)

    with pytest.raises(AnswerLostError):
        await provider.submit(new_submission())


@pytest.mark.parametrize("fault", ["drop", "silence", "cut"])
async def test_lost_answer_is_unknown_and_sent_once(make, server, fault):
    cut = truncated_response(b'{"request_id": "req', promised=100)
    server.answers["/fal-ai/"] = cut if fault == "cut" else getattr(server, fault)
    provider = make(server.url, timeout="1")

    with pytest.raises(AnswerLostError) as lost:
        await provider.submit(new_submission())

    assert lost.value.sent is Sent.UNKNOWN
    assert len(server.requests) == 1


async def test_refused_connection_is_not_sent(make):
    async with Server() as gone:
        url = gone.url

    with pytest.raises(NotReachedError):
        await make(url).submit(new_submission())


async def test_refusal_that_is_not_utf8_is_mapped(provider, server):
    server.answers["/fal-ai/"] = respond_with(b'{"detail": "caf\xe9"}', status=401)

    with pytest.raises(UnauthorizedError):
        await provider.submit(new_submission())


async def test_concurrent_submissions_do_not_mix(provider, server):
    async def answer(request):
        body = msgspec.json.decode(await request.read())
        return web.json_response({"request_id": f"req-{body['prompt']}"})

    server.answers["/fal-ai/"] = answer

    references = await asyncio.gather(*(provider.submit(new_submission(str(number))) for number in range(20)))

    assert [reference.external_id for reference in references] == [f"req-{number}" for number in range(20)]


def test_missing_key_names_its_variable():
    with pytest.raises(SettingsError, match="FAL_KEY"):
        FalMediaGeneratorModel.open_account(ProviderSetup(Account("fal")))
