"""Cog: every rule for providers against a real Cog server, and against a test server that fails."""

import asyncio
import json
from dataclasses import replace
from uuid import UUID

import pytest
from aiohttp import web

from app.media_generator.accounts import Account, ProviderSetup
from app.media_generator.cog_media_generator.provider import GENERIC_MODEL, CogMediaGeneratorModel
from app.media_generator.registry import Registry
from fleek.providers import AnswerLostError, AnswerPendingError, Failed, OutputError, Reference, Succeeded
from fleek.testing import ProviderContract, Trouble, open_http
from tests.providers.replicate_gateway import DOCUMENT
from tests.providers.server import Server, respond_with, truncated_response
from tests.support import attempts_of, eventually, pieces

GOOD = json.dumps({"status": "succeeded", "output": ["data:text/plain;base64,aGVsbG8="]}).encode()


def account(url, http, vault, **variables):
    settings = {"base_url": url, "submit_timeout": "8", **variables}
    return CogMediaGeneratorModel.open_account(ProviderSetup(Account("cog", settings), http, (), vault))


async def until_idle(provider):
    """The test before may have left its only slot to a prediction that nobody waits for."""
    await eventually(provider._server.health, lambda health: health.status == "READY")


class TestCog(ProviderContract):
    @pytest.fixture
    async def provider(self, cog_address, vault):
        async with open_http() as http, Server() as self.failing:
            self.http, self.vault = http, vault
            provider = account(cog_address, http, vault)
            await until_idle(provider)
            yield provider

    # Only the server knows which input its model accepts.
    test_schemas_are_valid_and_accept_their_example = None
    # One slot: the second submission is refused as busy.
    test_concurrent_submissions_have_their_own_references = None

    async def troubled(self, provider, trouble):
        answers = {
            Trouble.INPUT_REFUSED: respond_with(b"{}", status=422),
            Trouble.BUSY: respond_with(b'{"error": "At capacity"}', status=409),
            Trouble.MODEL_GONE: respond_with(b"{}", status=404),
            Trouble.ACCEPTED_THEN_500: respond_with(b"{}", status=500),
            Trouble.ACCEPTED_THEN_DROPPED: self.failing.drop,
            Trouble.ACCEPTED_THEN_SILENCE: self.failing.silence,
        }
        usual = self.usual(provider)
        if trouble is Trouble.FAILED_LATER:
            usual.input["fail"] = True
            return usual
        if trouble is Trouble.NOT_REACHED:
            await self.failing.__aexit__()
        elif trouble not in answers:
            return None
        else:
            self.failing.answers["/predictions"] = answers[trouble]
        provider._server.base = self.failing.url
        return usual


class TestCogWithCallbacks(TestCog):
    """The same server with callbacks: answers arrive only through `take_answer`, as in the API."""

    # One slot: it submits a second time while the first is running, which is refused as busy.
    test_answer_about_another_purchase_settles_nothing = None

    @pytest.fixture
    async def provider(self, cog_address, vault):
        async with open_http() as http, Server() as self.failing, Server() as self.api:
            self.http, self.vault = http, vault
            provider = account(cog_address, http, vault, callback_url=self.api.url)
            self.api.answers["/"] = self.forward_to(provider)
            self.failing.answers["/health-check"] = respond_with(b'{"status": "READY"}')
            await until_idle(provider)
            yield provider

    def forward_to(self, provider):
        async def answer(request):
            await provider.take_answer(UUID(request.path[1:]), pieces(await request.read()))
            return web.Response(status=204)

        return answer

    def usual(self, provider):
        submission = super().usual(provider)
        return replace(submission, callback_url=f"{self.api.url}/{submission.attempt_id}")


async def test_answer_is_stored_before_parsing_and_deleted_by_settled(cog_address, vault):
    async with open_http() as http:
        provider = account(cog_address, http, vault)
        reference = await provider.submit(TestCog().usual(provider))
        # As in another process, with nothing but the reference.
        other = account("http://127.0.0.1:9", http, vault)

        outcome = await other.poll(reference)
        picture = b"".join([chunk async for chunk in other.open(outcome.outputs[0])])
        await other.settled(reference)
        again = await other.poll(reference)

    assert isinstance(outcome, Succeeded)
    assert picture.startswith(b"\x89PNG")
    assert outcome.units["second"] > 0
    assert "100%|" in outcome.log
    assert isinstance(again, Failed)
    assert isinstance(again.error, OutputError)


async def test_truncated_answer_is_lost_and_not_stored(vault):
    async with Server() as server, open_http() as http:
        provider = account(server.url, http, vault)
        for answer in (truncated_response(GOOD[:40], promised=len(GOOD)), respond_with(GOOD[:40])):
            server.answers["/predictions"] = answer
            submission = TestCog().usual(provider)
            with pytest.raises(AnswerLostError):
                await provider.submit(submission)
            kept = await provider.poll(Reference("x", {"answer": f"answers/{submission.attempt_id}"}))
            assert isinstance(kept, Failed)


async def test_same_attempt_is_pending_while_it_runs(cog_address, vault):
    async with open_http() as http:
        provider = account(cog_address, http, vault)
        submission = TestCog().usual(provider)
        submission.input["delay"] = 2
        first = asyncio.create_task(provider.submit(submission))
        await asyncio.sleep(0.7)

        with pytest.raises(AnswerPendingError):
            await provider.submit(submission)

        assert isinstance(await provider.poll(await first), Succeeded)


async def test_refresh_reads_the_schema_of_the_container(vault):
    async with Server() as server, open_http() as http:
        server.answers["/openapi.json"] = respond_with(json.dumps(DOCUMENT).encode())
        card = await account(server.url, http, vault).refresh(GENERIC_MODEL)

    assert list(card.input_schema["properties"]) == ["image", "scheduler", "seed", "width"]


async def test_jobs_complete_end_to_end_with_one_slot(cog_address, vault, client, working):
    async with open_http() as http:
        provider = account(cog_address, http, vault)
        client.api._transport.app.state.runtime.registry._offers.update(_offers(provider))
        await working(provider)

        requested = [await client.generate(model="cog/model", input={"width": 90, "count": 2}) for _ in range(3)]
        done = [await client.until(media) for media in requested]
        failed = await client.until(await client.generate(model="cog/model", input={"fail": True}))

    # One slot serves them all: an attempt that finds it occupied is retried, at no cost.
    assert [media["status"] for media in done] == ["COMPLETED"] * 3
    assert [file["width"] for file in done[0]["files"]] == [90, 90]
    attempts = [attempt for media in done for attempt in await attempts_of(client, media)]
    assert {attempt["error"] and attempt["error"]["code"] for attempt in attempts} <= {None, "provider_busy"}
    assert failed["error"]["code"] == "generation_failed"


def _offers(provider):
    return Registry([provider])._offers
