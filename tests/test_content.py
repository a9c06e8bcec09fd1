"""The permanent URL of a file as real clients use it: HEAD, parts of it, and files that are gone."""

import asyncio
import subprocess

import httpx2
import pytest

from app.core.ids import new_id
from app.storage.s3 import S3Store
from tests.support import Client, eventually, served

SAME = ("content-type", "content-length", "etag", "last-modified", "accept-ranges")


async def curl(*options):
    """The standard output of curl, which fails on an error status."""
    command = ["curl", "-sS", "--fail", "--noproxy", "*", *options]
    return (await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, timeout=30)).stdout


@pytest.fixture
async def address(settings, runner, tmp_path):
    """Where an API listens, with a runner at work."""
    assert runner.in_flight == 0
    with served(settings, tmp_path / "api.log") as found:
        yield found


@pytest.fixture
async def web(address):
    """A client that follows redirects."""
    async with httpx2.AsyncClient(base_url=address, timeout=30, trust_env=False, follow_redirects=True) as client:
        await eventually(Client(client).answers)
        yield client


@pytest.fixture
async def done(web):
    client = Client(web)
    return await client.until(await client.faulty(size=5000))


async def test_head_says_what_get_sends_without_a_redirect(web, done):
    url = f"/media/content/{done['id']}"
    read, described = await web.get(url), await web.head(url, follow_redirects=False)

    assert (read.status_code, described.status_code, described.content) == (200, 200, b"")
    assert {name: described.headers[name] for name in SAME} == {name: read.headers[name] for name in SAME}
    assert described.headers["accept-ranges"] == "bytes"
    assert int(described.headers["content-length"]) == done["files"][0]["bytes"] == len(read.content)
    assert described.headers["content-type"] == done["files"][0]["media_type"]
    assert described.headers["cache-control"] == "private, no-store"
    # On the same connection: the one before was complete.
    assert (await web.get(url)).content == read.content


async def test_head_of_what_the_client_has_is_not_modified(web, done):
    url = f"/media/content/{done['id']}"
    etag = (await web.head(url)).headers["etag"]

    for method in ("HEAD", "GET"):
        again = await web.request(method, url, headers={"if-none-match": etag})
        assert (again.status_code, again.headers["etag"]) == (304, etag), method
    assert (await web.head(url, headers={"if-none-match": '"another"'})).status_code == 200


async def test_part_of_a_file_comes_through_the_redirect(web, address, done):
    url = f"/media/content/{done['id']}"
    whole = (await web.get(url)).content

    first = await web.get(url, headers={"range": "bytes=0-99"})
    last = await web.get(url, headers={"range": "bytes=-10"})
    resumed = await curl("-L", "-r", f"{len(whole) - 50}-", f"{address}{url}")
    headers = (await curl("-L", "-I", f"{address}{url}")).decode().lower()

    assert (first.status_code, first.content) == (206, whole[:100])
    assert first.headers["content-range"] == f"bytes 0-99/{len(whole)}"
    assert (last.status_code, last.content) == (206, whole[-10:])
    assert resumed == whole[-50:]
    assert headers.startswith("http/1.1 200")
    assert f"content-length: {len(whole)}" in headers
    assert (await web.get(url, headers={"range": f"bytes={len(whole)}-"})).status_code == 416


async def test_head_of_what_is_not_there_answers_like_get(web, done, settings, db):
    client = Client(web)
    failed = await client.until(await client.faulty(fail_times=1, fail_with="credit"))
    paths = {
        f"/media/content/{new_id()}": 404,
        f"/media/content/{done['id']}?index=1": 404,
        f"/media/content/{done['id']}?rendition=poster": 404,
        f"/media/content/{failed['id']}": 409,
        "/media/content/nothing": 422,
    }
    for path, status in paths.items():
        assert (await web.head(path)).status_code == (await web.get(path)).status_code == status, path

    key = (await db.fetchrow("SELECT key FROM files WHERE media_id = $1", done["id"]))["key"]
    await S3Store(settings).delete(key)
    gone = f"/media/content/{done['id']}"
    assert (await web.head(gone)).status_code == (await web.get(gone)).status_code == 404


async def test_head_of_a_poster_describes_the_poster(web, address, done, db, settings):
    async def bytes_of_poster():
        yield b"\x89PNG of a video"

    await S3Store(settings).put("poster-of-a-test", bytes_of_poster(), "image/png")
    await db.execute("UPDATE files SET poster_key = 'poster-of-a-test' WHERE media_id = $1", done["id"])

    answer = await web.head(f"/media/content/{done['id']}?rendition=poster")

    assert (answer.status_code, answer.headers["content-length"]) == (200, "15")


async def test_head_with_a_store_that_does_not_answer_is_told_to_come_back(api_of, product):
    media = await product.until(await product.faulty())
    api = await api_of(None, s3_endpoint_url="http://127.0.0.1:9")

    answer = await api.head(f"/media/content/{media['id']}")

    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")


async def test_head_of_an_event_stream_ends(web, done):
    for path in (f"/media/{done['id']}/events", "/media/events"):
        async with asyncio.timeout(10):
            answer = await web.head(path)
        assert answer.headers["content-type"].startswith("text/event-stream")
    assert (await web.get("/tools/status")).status_code == 200
