"""Every rule for providers: OpenAI at aimock, and a server of the operator's own that fails in every way."""

import msgspec
import pytest

from app.core.ids import new_id
from app.media_generator.catalogue import Catalogue
from app.media_generator.contract.failure_contract import Trouble
from app.media_generator.contract.provider_contract import ProviderContract
from fleek.testing import open_http
from tests.providers.openai import FORBIDDEN, base64_of, new_submission, picture
from tests.providers.server import Server, respond_with, truncated_response


@pytest.fixture
async def http():
    """A client whose calls can be played back."""
    async with open_http() as outgoing:
        yield outgoing


class TestOpenAI(ProviderContract):
    @pytest.fixture
    async def provider(self, aimock, make):
        names = ",".join(card.name for card in Catalogue().models("openai", "openai"))
        return make(base_url=f"{aimock.url}/v1", models=names)

    def refused(self):
        return new_submission(FORBIDDEN)


STATUSES = {
    Trouble.BUSY: 429,
    Trouble.INPUT_REFUSED: 400,
    Trouble.UNAUTHORIZED: 401,
    Trouble.NO_CREDIT: 402,
    Trouble.MODEL_GONE: 404,
    Trouble.ACCEPTED_THEN_500: 500,
}


class TestOwnServer(ProviderContract):
    """Refusals and lost answers from aimock; failures that it cannot produce from the test server."""

    @pytest.fixture
    async def provider(self, aimock, make, server):
        self.aimock, self.make, self.server = aimock, make, server
        self.prompt_of_trouble = f"in trouble {new_id()}"
        # Of a huge output the test server writes tens of megabytes within this time, on a busy machine, too.
        return make("lab", base_url=f"{aimock.url}/v1", submit_timeout="4")

    def refused(self):
        return new_submission(FORBIDDEN, "images")

    async def troubled(self, provider, trouble):
        made = {"images": [{"b64Json": base64_of(picture())}]}
        if trouble in STATUSES:
            refusal = {"error": {"message": "told you so"}, "status": STATUSES[trouble]}
            await self.aimock.answers(self.prompt_of_trouble, refusal)
        elif trouble is Trouble.ACCEPTED_THEN_DROPPED:
            await self.aimock.answers(self.prompt_of_trouble, made, chaos={"disconnectRate": 1})
        elif trouble is Trouble.NOT_REACHED:
            async with Server() as gone:
                provider._base_url = f"{gone.url}/v1"
        else:
            self._at_test_server(provider, trouble)
        return new_submission(self.prompt_of_trouble, "images")

    def _at_test_server(self, provider, trouble):
        provider._base_url = f"{self.server.url}/v1"
        body = {"data": [{"url": f"{self.server.url}/made"}]}
        if trouble is Trouble.FAILED_LATER:
            body = {"error": "out of memory"}
        elif trouble is Trouble.OUTPUT_CUT:
            self.server.answers["/made"] = truncated_response(picture()[:20], promised=500)
        elif trouble is Trouble.OUTPUT_HUGE:
            body = {"data": [{"b64_json": base64_of(bytes(52 * 1024 * 1024))}]}
        silent = trouble is Trouble.ACCEPTED_THEN_SILENCE
        self.server.answers["/v1/"] = self.server.silence if silent else respond_with(msgspec.json.encode(body))

    async def bought(self):
        here = [one for one in self.server.requests if one.path == "/v1/images/generations"]
        came = await self.aimock.arrived("POST", "/v1/images/generations", self.prompt_of_trouble)
        return len(here) + len([one for one in came if one["response"]["status"] in {0, 200, 500}])
