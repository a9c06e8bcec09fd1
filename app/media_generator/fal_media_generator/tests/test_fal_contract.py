"""Every rule for providers: fal at aimock, and at a server of the tests that fails in every way."""

import pytest
from aiohttp import web

from app.media_generator.accounts import Account, ProviderSetup
from app.media_generator.catalogue import Catalogue
from app.media_generator.contract.failure_contract import Trouble
from app.media_generator.contract.provider_contract import ProviderContract
from app.media_generator.fal_media_generator.provider import FalMediaGeneratorModel
from tests.providers.fal import SCHNELL, new_submission, picture
from tests.providers.server import Server, respond_with, truncated_response


class TestFal(ProviderContract):
    @pytest.fixture
    async def provider(self, at_aimock):
        return at_aimock

    def refused(self):
        return new_submission("a prompt without an answer in aimock")


STATUSES = {
    Trouble.BUSY: 429,
    Trouble.INPUT_REFUSED: 422,
    Trouble.UNAUTHORIZED: 401,
    Trouble.NO_CREDIT: 402,
    Trouble.MODEL_GONE: 404,
    Trouble.ACCEPTED_THEN_500: 500,
}


class OneModelProvider(FalMediaGeneratorModel):
    """One model only, so that the rules for each model are not tested twice."""

    def models(self):
        return tuple(card for card in super().models() if card.name == SCHNELL)


class TestFalInTrouble(ProviderContract):
    """The rules at a test server, which can fail in every way."""

    @pytest.fixture
    async def provider(self, http, server, cdn):
        self.server, self.cdn, self.submitted = server, cdn, 0
        server.answers[f"/{SCHNELL}"] = self._submit
        server.answers["/fal-ai/flux/requests/"] = self._get
        self.result = {"images": [{"url": f"{cdn.url}/files/picture.png"}]}
        account = Account("fal", {"key": "k", "base_url": server.url, "timeout": "2"})
        return OneModelProvider.open_account(ProviderSetup(account, http, Catalogue().models("fal", "fal")))

    async def _submit(self, request):
        self.submitted += 1
        return web.json_response({"request_id": f"req-{self.submitted}"})

    async def _get(self, request):
        if request.path.endswith("/status"):
            return web.json_response({"status": "COMPLETED"})
        if request.path.endswith("/cancel"):
            return web.json_response({"status": "ALREADY_COMPLETED"}, status=400)
        return web.json_response(self.result, status=422 if "detail" in self.result else 200)

    async def troubled(self, provider, trouble):
        lost = {Trouble.ACCEPTED_THEN_SILENCE: self.server.silence, Trouble.ACCEPTED_THEN_DROPPED: self.server.drop}
        if trouble in STATUSES:
            self.server.answers[f"/{SCHNELL}"] = respond_with(b'{"detail": "told you so"}', status=STATUSES[trouble])
        elif trouble in lost:
            self.server.answers[f"/{SCHNELL}"] = lost[trouble]
        elif trouble is Trouble.NOT_REACHED:
            async with Server() as gone:
                provider._base_url = gone.url
        elif trouble is Trouble.FAILED_LATER:
            self.result = {"detail": [{"msg": "flagged", "type": "content_policy_violation"}]}
        else:
            self.cdn.answers["/files/"] = {
                Trouble.OUTPUT_GONE: respond_with(b"", status=404),
                Trouble.OUTPUT_CUT: truncated_response(picture()[:20], promised=500),
                Trouble.OUTPUT_HUGE: huge,
            }[trouble]
            self.result = {"images": [{"url": f"{self.cdn.url}/files/x"}]}
        return new_submission()


async def huge(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(64):
        await response.write(bytes(1024 * 1024))
    return response
