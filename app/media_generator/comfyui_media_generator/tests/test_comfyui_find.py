"""The look-up of a lost job: an entry that does not say whose it is may be the one."""

import json

import pytest

from app.core.database.migrations import ROOT
from app.core.ids import new_id
from app.media_generator.accounts import Account, ProviderSetup
from app.media_generator.comfyui_media_generator.provider import ComfyUIMediaGeneratorModel
from app.media_generator.errors import UnreadableAnswerError
from app.media_generator.media_generator_model import Submission
from fleek.testing import open_http
from tests.providers.server import Server, respond_with

OTHERS = ({"fleek_attempt": str(new_id())}, {}, {"client_id": "x"})
ODD = (
    *(None, {}, [], [1], "x", [1, "other"], [1, "other", {}], [1, "other", {}, None, []], [1, None, {}, {}, []]),
    *([1, "other", {}, {"fleek_attempt": odd}, []] for odd in (None, "", "***", 7, [], {})),
)


async def found(history, queue):
    async with Server() as server, open_http() as http:
        variables = {"base_url": server.url, "workflows": str(ROOT / "deploy" / "comfyui")}
        provider = ComfyUIMediaGeneratorModel.open_account(ProviderSetup(Account("comfyui", variables), http))
        server.answers["/queue"] = respond_with(json.dumps({"queue_running": [], "queue_pending": queue}).encode())
        server.answers["/history/"] = respond_with(b"{}")
        server.answers["/history"] = respond_with(json.dumps(history).encode())
        submission = Submission(new_id(), 1, provider.models()[0].name, "x", {})
        server.answers[f"/history/{submission.attempt_id}"] = respond_with(b"{}")
        return await provider.find(submission, None)


@pytest.mark.parametrize("odd", ODD, ids=str)
async def test_job_that_does_not_say_whose_it_is_may_be_it(odd):
    with pytest.raises(UnreadableAnswerError):
        await found({"other": {"prompt": odd, "outputs": {}}}, [])
    with pytest.raises(UnreadableAnswerError):
        await found({}, [odd])


@pytest.mark.parametrize("entry", [None, [], "x", {}], ids=str)
async def test_unreadable_entry_of_the_history_may_be_it(entry):
    with pytest.raises(UnreadableAnswerError):
        await found({"other": entry}, [])


@pytest.mark.parametrize("extra", OTHERS, ids=range(len(OTHERS)))
async def test_jobs_of_others_are_not_it(extra):
    item = [1, "other", {}, extra, []]
    assert await found({"other": {"prompt": item, "outputs": {}}}, [item]) is None
