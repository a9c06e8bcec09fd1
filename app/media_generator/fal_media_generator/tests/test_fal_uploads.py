"""Input files in fal's storage."""

import json

import pytest

from app.media_generator import adapter_calls
from app.media_generator.errors import NotReachedError
from app.media_generator.media_generator_model import InputFile
from tests.providers.server import respond_with


async def test_upload_goes_to_the_storage_without_the_key(make, server):
    place = {"upload_url": f"{server.url}/put/1?signed=yes", "file_url": "https://v3.fal.media/files/1.png"}
    server.answers |= {"/storage/upload/initiate": respond_with(json.dumps(place).encode()), "/put": respond_with(b"")}
    provider = make(server.url, storage_url=server.url)

    async def chunks():
        yield b"some "
        yield b"bytes"

    url = await provider.upload(InputFile("image/png", 10, "a.png", chunks))

    initiated, put = server.requests
    assert url == place["file_url"]
    assert json.loads(initiated.body) == {"content_type": "image/png", "file_name": "a.png"}
    assert (initiated.path, initiated.headers["authorization"]) == (
        "/storage/upload/initiate?storage_type=fal-cdn-v3",
        "Key id:secret",
    )
    assert (put.method, put.body, put.headers["content-type"]) == ("PUT", b"some bytes", "image/png")
    assert "authorization" not in put.headers, "the storage must not receive the key"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (respond_with(b'{"detail": "no"}', status=500), respond_with(b"")),
        (respond_with(b"{}"), respond_with(b"")),
        (respond_with(b"no json"), respond_with(b"")),
        (respond_with(b'{"upload_url": "file:///etc/passwd", "file_url": "x"}'), respond_with(b"")),
        (None, respond_with(b"", status=403)),
    ],
)
async def test_failed_upload_is_not_sent(make, server, first, second):
    place = json.dumps({"upload_url": f"{server.url}/put/1", "file_url": "https://v3.fal.media/1"}).encode()
    server.answers |= {"/storage/upload/initiate": first or respond_with(place), "/put": second}

    async def chunks():
        yield b"bytes"

    with pytest.raises(NotReachedError):
        await adapter_calls.upload(make(server.url, storage_url=server.url), InputFile("image/png", 5, "a.png", chunks))
