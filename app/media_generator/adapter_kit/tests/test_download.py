"""Downloads: a connection of their own for each, and what headers say about length and content is checked."""

import asyncio
import hashlib
from base64 import b64encode

import pytest

from app.core.http_client.protocol import Request
from app.media_generator.adapter_kit.http import download
from app.media_generator.adapter_kit.promised_hashes import PromisedHashes
from app.media_generator.errors import (
    MissingOutputError,
    NotReachedError,
    OutputGoneError,
    SuspectOutputError,
    UnconfirmedOutputError,
)
from fleek.testing import open_http
from tests.http_servers import HttpServer, running

BODY = b"the bytes of an output"
MD5, SHA256 = (b64encode(hashlib.new(name, BODY).digest()).decode() for name in ("md5", "sha256"))
OTHER = b64encode(hashlib.sha256(b"another").digest()).decode()
ETAG = f'"{hashlib.md5(BODY).hexdigest()}"'
S3 = {"x-amz-request-id": "1"}


def answer(body=BODY, status="200 OK", length=None, **headers):
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def fetched(server):
    async with open_http() as http:
        # The request asks for a kept connection; a download never has one.
        request = Request(method="GET", url=server.url, keep_alive=True, guarded=False)
        return b"".join([chunk async for chunk in download(http, request, provider="acme")])


async def test_each_download_has_a_connection_of_its_own():
    async with running(HttpServer(answer())) as server:
        assert [await fetched(server) for _ in range(2)] == [BODY, BODY]

    assert server.connections == 2
    assert "connection: close" in server.requests[0][0].lower()


async def test_body_shorter_than_its_length_is_not_complete():
    async def cut(writer):
        writer.write(answer(length=1000))
        await writer.drain()
        writer.close()

    async with running(HttpServer(cut)) as server:
        with pytest.raises(NotReachedError):
            await fetched(server)


async def test_bytes_after_the_body_are_not_part_of_it():
    async with running(HttpServer(answer() + answer(b"another"))) as server:
        assert await fetched(server) == BODY


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("404 Not Found", MissingOutputError),
        ("403 Forbidden", MissingOutputError),
        ("410 Gone", OutputGoneError),
        ("500 Oops", NotReachedError),
    ],
)
async def test_missing_output_is_told_from_one_that_is_gone(status, error):
    async with running(HttpServer(answer(status=status))) as server:
        with pytest.raises(error) as raised:
            await fetched(server)
    assert type(raised.value) is error


async def test_damaged_body_is_suspect():
    async with running(HttpServer(answer(Content_MD5=b64encode(bytes(16)).decode()))) as server:
        with pytest.raises(SuspectOutputError, match="md5 differs"):
            await fetched(server)


def check(headers, body=BODY):
    promised = PromisedHashes(headers)
    promised.feed(body[:5])
    promised.feed(body[5:])
    promised.check("acme")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-MD5": MD5},
        {"Content-Digest": f"sha-256=:{SHA256}:"},
        {"Repr-Digest": f"unixsum=:AA==:, sha-256=:{SHA256}:"},
        {"Digest": f"SHA-256={SHA256},MD5={MD5}"},
        {"x-goog-hash": f"crc32c=AAAAAA==,md5={MD5}"},
        {"ETag": ETAG, **S3},
        # What is no hash of these bytes says nothing.
        {"Content-MD5": "not base64"},
        {"Content-Digest": "sha-256=:AAAA:"},
        {"ETag": '"33a64df551425fcc55e4d42a148795d9"'},
        {"ETag": 'W/"33a64df551425fcc55e4d42a148795d9"', **S3},
        {"ETag": '"33a64df551425fcc55e4d42a148795d9-12"', **S3},
        {"ETag": '"33a64df551425fcc55e4d42a148795d9"', "x-amz-server-side-encryption": "aws:kms", **S3},
        {
            "ETag": '"33a64df551425fcc55e4d42a148795d9"',
            "x-amz-server-side-encryption-customer-algorithm": "AES256",
            **S3,
        },
        {"x-goog-hash": "md5=AAAAAAAAAAAAAAAAAAAAAA==", "x-goog-stored-content-encoding": "gzip"},
    ],
)
def test_matching_or_meaningless_hash_is_accepted(headers):
    check(headers)


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"Content-MD5": b64encode(bytes(16)).decode()}, SuspectOutputError),
        ({"Content-Digest": f"sha-256=:{OTHER}:"}, SuspectOutputError),
        ({"Repr-Digest": f"sha-256=:{OTHER}:"}, SuspectOutputError),
        ({"Digest": f"sha-256={OTHER}"}, SuspectOutputError),
        ({"x-goog-hash": "md5=AAAAAAAAAAAAAAAAAAAAAA=="}, SuspectOutputError),
        ({"ETag": '"33a64df551425fcc55e4d42a148795d9"', **S3}, UnconfirmedOutputError),
    ],
)
def test_other_hash_makes_it_suspect(headers, error):
    with pytest.raises(SuspectOutputError) as raised:
        check(headers)
    assert type(raised.value) is error


@pytest.mark.parametrize("status", ["201 Created", "203 Non-Authoritative Information", "226 IM Used", "299 Fine"])
async def test_any_success_brings_the_file(status):
    async with running(HttpServer(answer(status=status))) as server:
        assert await fetched(server) == BODY


@pytest.mark.parametrize("covered", ["bytes 0-21/22", "BYTES 0-21/22"])
async def test_part_that_is_the_whole_file_is_the_file(covered):
    async with running(HttpServer(answer(status="206 Partial Content", Content_Range=covered))) as server:
        assert await fetched(server) == BODY


@pytest.mark.parametrize("covered", ["", "bytes 0-21/99", "bytes 1-22/23", "bytes 0-21/*", "nonsense"])
async def test_part_of_a_file_is_not_the_file(covered):
    async with running(HttpServer(answer(status="206 Partial Content", Content_Range=covered))) as server:
        with pytest.raises(SuspectOutputError):
            await fetched(server)


@pytest.mark.parametrize("status", ["204 No Content", "205 Reset Content"])
async def test_answer_without_a_body_is_no_file(status):
    async with running(HttpServer(answer(b"", status=status))) as server:
        with pytest.raises(MissingOutputError):
            await fetched(server)


@pytest.mark.parametrize("location", ["/schöne Datei (1).png", "/sch%C3%B6ne%20Datei%20(1).png"])
async def test_redirect_is_read_like_any_address(location):
    redirect = f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n".encode()
    left = [redirect, answer()]

    async def next_one(writer):
        writer.write(left.pop(0))

    async with running(HttpServer(next_one)) as server:
        assert await fetched(server) == BODY

    assert server.requests[1][0].startswith("GET /sch%C3%B6ne%20Datei%20(1).png ")


async def test_body_that_states_no_length_is_confirmed_by_a_second_fetch():
    async def respond(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf a pict")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    request = Request(method="GET", url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", guarded=False)
    got = list[bytes]()

    async def fetch():
        async with server, open_http() as http:
            async for chunk in download(http, request, provider="acme"):
                got.append(chunk)

    with pytest.raises(UnconfirmedOutputError, match="states no length"):
        await fetch()

    assert b"".join(got) == b"half a pict"
