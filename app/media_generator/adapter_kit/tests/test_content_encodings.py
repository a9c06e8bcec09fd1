"""Bodies that came compressed although nothing asked for it."""

import gzip
import os
import zlib

import pytest

from app.core.http_client.protocol import Request
from app.media_generator.adapter_kit.content_encodings import decoded_chunks
from app.media_generator.adapter_kit.http import download
from app.media_generator.adapter_kit.lenient_json import parse
from app.media_generator.errors import SuspectOutputError, UnreadableAnswerError
from fleek.testing import open_http
from tests.providers.server import Server, respond_with
from tests.support import pieces

CONTENT = os.urandom(300_000) + bytes(3_000_000)
RAW = zlib.compressobj(wbits=-15)
BODIES = {
    "gzip": gzip.compress(CONTENT),
    "deflate": zlib.compress(CONTENT),
    "Deflate": RAW.compress(CONTENT) + RAW.flush(),
}


async def joined(chunks):
    return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize("name", BODIES)
async def test_body_is_decoded_while_it_streams(name):
    assert await joined(decoded_chunks({"content-encoding": name}, pieces(BODIES[name]))) == CONTENT
    assert await joined(decoded_chunks({}, pieces(BODIES[name]))) == BODIES[name]
    for damaged in (BODIES[name][:-9], b"no such thing"):
        with pytest.raises(SuspectOutputError):
            await joined(decoded_chunks({"content-encoding": name}, pieces(damaged)))


async def test_compressed_download_is_decoded():
    async with Server() as server, open_http() as http:
        server.answers["/"] = respond_with(BODIES["gzip"], Content_Encoding="gzip")
        request = Request(method="GET", url=f"{server.url}/a", guarded=False)

        assert await joined(download(http, request, provider="acme")) == CONTENT


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_compressed_json_is_read_within_a_bound(compress, monkeypatch):
    assert parse(compress(b'{"a": 1}')) == {"a": 1}
    monkeypatch.setattr("app.media_generator.adapter_kit.content_encodings.MOST_BYTES", 1_000_000)
    with pytest.raises(UnreadableAnswerError):
        parse(compress(b" " * 10_000_000 + b"{}"))
