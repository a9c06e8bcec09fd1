"""Every status of an answer to a billable call: "not sent" is a short list of proofs, everything else is unknown."""

import json
from http import HTTPStatus

import pytest

from app.core.ids import new_id
from app.media_generator.accounts import Account, ProviderSetup
from app.media_generator.adapter_kit.http import REFUSALS
from app.media_generator.catalogue import Catalogue
from app.media_generator.cog_media_generator.provider import CogMediaGeneratorModel
from app.media_generator.comfyui_media_generator.server import Server as ComfyUIServer
from app.media_generator.errors import ProviderError, Sent
from app.media_generator.fal_media_generator.provider import FalMediaGeneratorModel
from app.media_generator.media_generator_model import Submission
from app.media_generator.openai_media_generator.provider import OpenAIMediaGeneratorModel
from app.media_generator.replicate_media_generator.provider import ReplicateMediaGeneratorModel
from fleek.testing import open_http
from tests.providers.server import Server, respond_with

PROOFS = {*REFUSALS, HTTPStatus.TOO_MANY_REQUESTS}
BODIES = [
    b"",
    b"<html>busy</html>",
    json.dumps({"detail": "Exhausted balance", "error": {"code": "insufficient_quota", "message": "no"}}).encode(),
    json.dumps({"detail": [{"msg": "flagged", "type": "content_policy_violation"}]}).encode(),
    json.dumps({"error": {"code": "moderation_blocked", "message": "no"}, "detail": "resets in ~3s"}).encode(),
    b'{"id": null, "request_id": [], "prompt_id": {}, "data": [7, {"b64_json": NaN}], "output": "\\ud83d"',
    json.dumps({"data": [{"b64_json": "AAAA"}], "id": "one", "request_id": "one", "prompt_id": "one"}).encode(),
]
"""Empty, a page, errors, garbage, and a result."""
NAMED = {int(status) for status in HTTPStatus}
CASES = [(status, body) for status in range(100, 600) for body in (BODIES if status in NAMED else BODIES[:1])]


def opened(kind, name, url, http, vault, **variables):
    cards = Catalogue().models(name, name)
    provider = kind.open_account(ProviderSetup(Account(name, {"base_url": url, **variables}), http, cards, vault))
    model = provider.models()[0].name
    return lambda: provider.submit(Submission(new_id(), 1, model, "a lighthouse", {}))


def comfyui(url, http, _vault):
    server = ComfyUIServer("comfyui", http, url, None, timeout=5)
    return lambda: server.queue_prompt({}, str(new_id()))


ADAPTERS = {
    "replicate": lambda *at: opened(ReplicateMediaGeneratorModel, "replicate", *at, api_token="token"),
    "fal": lambda *at: opened(FalMediaGeneratorModel, "fal", *at, key="id:secret"),
    "openai": lambda *at: opened(OpenAIMediaGeneratorModel, "openai", *at, api_key="key"),
    "cog": lambda *at: opened(CogMediaGeneratorModel, "cog", *at),
    "comfyui": comfyui,
}
MORE_PROOFS = {"cog": {HTTPStatus.CONFLICT}}


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_no_status_outside_the_list_of_proofs_is_not_sent(adapter, vault):
    proofs = PROOFS | MORE_PROOFS.get(adapter, set())
    seen = {}

    async with Server() as server, open_http() as http:
        submit = ADAPTERS[adapter](server.url, http, vault)
        for status, body in CASES:
            server.answers["/"] = respond_with(body, status=status)
            try:
                await submit()
            except ProviderError as error:
                seen.setdefault(error.sent, set()).add(status)

    assert seen[Sent.NO] == proofs
    assert not seen.get(Sent.UNKNOWN, set()) & proofs
