"""The provider `openai` at aimock, and at a server of the tests for what breaks half-way."""

import pytest

from app.core.http_client.client import HttpClient
from app.media_generator.accounts import Account, ProviderSetup
from app.media_generator.catalogue import Catalogue
from app.media_generator.openai_media_generator.provider import OpenAIMediaGeneratorModel
from tests.providers.aimock import Aimock
from tests.providers.openai import FLARE, FORBIDDEN, PROMPT, base64_of, picture
from tests.providers.server import Server


@pytest.fixture
async def http():
    outgoing = HttpClient(allow_private_addresses=False)
    yield outgoing
    await outgoing.close()


@pytest.fixture
async def aimock(aimock_url, http):
    mock = Aimock(aimock_url, http)
    await mock.answers(PROMPT, {"images": [{"b64Json": base64_of(picture())}]})
    refusal = {"error": {"message": "rejected by the safety system", "code": "moderation_blocked"}, "status": 400}
    await mock.answers(FORBIDDEN, refusal)
    return mock


@pytest.fixture
def make(http, vault):
    """Opens accounts as the product does."""

    def open_account(name="openai", kind=OpenAIMediaGeneratorModel, **variables):
        account = Account(name, {"api_key": "sk-test", **variables})
        setup = ProviderSetup(account, http, Catalogue().models("openai", name), vault)
        return kind.open_account(setup)

    return open_account


@pytest.fixture
async def server():
    async with Server() as running_server:
        yield running_server


@pytest.fixture
def lab(make, server):
    """An account at the test server."""
    return make("lab", base_url=f"{server.url}/v1", models="sdxl", submit_timeout="20")


@pytest.fixture
def openai_variables(monkeypatch, aimock):
    """The variables that an operator sets; the API reads them when it starts."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{aimock.url}/v1")
    monkeypatch.setenv("OPENAI_MODELS", FLARE)


@pytest.fixture
async def product(openai_variables, client, working, make, aimock):
    """The API with a runner that has this provider."""
    await working(make(base_url=f"{aimock.url}/v1", models=FLARE))
    return client
