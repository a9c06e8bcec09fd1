"""fal at aimock, and at a server of the tests for what aimock lacks."""

import pytest

from app.media_generator.accounts import Account, ProviderSetup
from app.media_generator.catalogue import Catalogue
from app.media_generator.fal_media_generator.provider import FalMediaGeneratorModel
from fleek.testing import open_http
from tests.providers.aimock import Aimock
from tests.providers.fal import PROMPT, SOUND, VIDEO, AimockHttp, picture
from tests.providers.server import Server, respond_with


@pytest.fixture
async def http():
    async with open_http() as outgoing:
        yield outgoing


@pytest.fixture
async def server():
    async with Server() as running_server:
        yield running_server


@pytest.fixture
async def cdn():
    """The server of the result files."""
    async with Server() as running_server:
        running_server.answers["/files/picture.png"] = respond_with(picture())
        running_server.answers["/files/video.mp4"] = respond_with(VIDEO)
        running_server.answers["/files/sound.wav"] = respond_with(SOUND)
        yield running_server


@pytest.fixture
async def aimock(aimock_url, http, cdn):
    mock = Aimock(aimock_url, http)
    pictures = {"images": [{"url": f"{cdn.url}/files/picture.png", "content_type": "image/png"}], "seed": 7}
    video, sound = {"video": {"url": f"{cdn.url}/files/video.mp4"}}, {"audio": {"url": f"{cdn.url}/files/sound.wav"}}
    # The first answer wins, and the files have other URLs in each test.
    await mock.forget()
    for card in Catalogue().models("fal", "fal"):
        made = {"image": pictures, "video": video, "audio": sound}[card.output_types[0].partition("/")[0]]
        await mock.answers(PROMPT, {"json": made, "billableUnits": 0.79}, endpoint="fal", model=card.name)
    return mock


@pytest.fixture
def make(http):
    """Opens accounts as the product does."""

    def open_account(base_url, client=None, **variables):
        account = Account("fal", {"key": "id:secret", "base_url": base_url, **variables})
        return FalMediaGeneratorModel.open_account(
            ProviderSetup(account, client or http, Catalogue().models("fal", "fal"))
        )

    return open_account


@pytest.fixture
def at_aimock(make, http, aimock):
    return make(f"{aimock.url}/fal", AimockHttp(http))


@pytest.fixture
def provider(make, server):
    """At the server of the tests."""
    return make(server.url, timeout="20")


@pytest.fixture
async def product(monkeypatch, aimock, at_aimock, request):
    """The API with a runner that has this provider; the API reads the variables when it starts."""
    monkeypatch.setenv("FAL_KEY", "id:secret")
    monkeypatch.setenv("FAL_BASE_URL", f"{aimock.url}/fal")
    return aimock
