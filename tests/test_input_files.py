"""Files that an `input` names: refused at once where they are not there, handed over as each provider takes them."""

import asyncio
import base64
import ssl
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from uuid import UUID

import pytest
import trustme

from app.core.http_client.client import HttpClient
from app.core.ids import new_id
from app.jobs.inputs.references import Inline, OfMedia, places, read, replaced
from app.media_generator.dummy_media_generator.png import png_of_about
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.registry import Registry
from app.runtime import open_runtime
from app.storage.store import StoreUnavailableError
from app.worker import build_runner
from fleek.providers import AnswerLostError, BusyError
from tests.http_servers import FixedResolver, HttpServer, running
from tests.support import attempts_of, eventually

DUMMY = DummyMediaGeneratorModel.capabilities
PNG = png_of_about(3_000)
LARGE = png_of_about(90_000)
NOBODYS = UUID(int=7 << 76 | 2 << 62)
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "image": {"anyOf": [{"type": "string", "format": "uri"}, {"type": "null"}]},
        "images": {"type": "array", "items": {"$ref": "#/$defs/file"}},
        "word": {"type": "string"},
        "strength": {"type": "number"},
        "weights": {"type": "string", "format": "uri", "default": "https://example.com/usual.bin"},
    },
    "$defs": {"file": {"type": "string", "format": "uri"}},
}


class Reader(DummyMediaGeneratorModel):
    """Takes input files as the test says, and remembers what it was given."""

    def __init__(self, **can):
        super().__init__()
        self.capabilities = replace(DUMMY, submit_timeout=timedelta(seconds=5), **can)
        self.given = []
        self.uploaded = []
        self.found = []
        self.upload_errors = []
        self.lose = False

    def models(self):
        faulty = next(card for card in super().models() if card.name == "faulty")
        return [replace(faulty, input_schema=SCHEMA, example={})]

    async def submit(self, submission):
        self.given.append(submission.input)
        reference = await super().submit(replace(submission, input={}))
        if self.lose:
            raise AnswerLostError("lost")
        return reference

    async def find(self, submission, since):
        self.found.append(submission.input)
        return await super().find(replace(submission, input={}), since)

    async def upload(self, file):
        if self.upload_errors:
            raise self.upload_errors.pop(0)
        self.uploaded.append((file.media_type, file.size, b"".join([chunk async for chunk in file.chunks()])))
        return f"upload-{len(self.uploaded)}"


@pytest.fixture
def provider():
    return Reader(data_uri_bytes=10_000, uploads=True)


@pytest.fixture
def registry(provider):
    return Registry([provider])


@pytest.fixture
async def at_work(settings, bell, provider):
    """Starts a runner that can call others."""
    stack = []

    async def start(outgoing=None, **changes):
        chosen = settings.model_copy(update=changes)
        made = outgoing or HttpClient(allow_private_addresses=chosen.allow_private_addresses)
        opened = open_runtime(chosen, Registry([provider]), made)
        runner = bell.runner = build_runner(await opened.__aenter__())
        await runner.start()
        stack.append((runner, opened))
        return runner

    yield start
    for runner, opened in stack:
        await runner.stop()
        await opened.__aexit__(None, None, None)


async def handed_in(client, content=PNG):
    answer = await client.api.post("/files", files={"file": ("a.png", content)})
    return answer.json()["uri"]


def data_uri(content=PNG):
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


async def ask(client, **given):
    return await client.generate(model="dummy/faulty", input=given)


async def refused(client, **given):
    answer = await client.api.post("/media/generate", json={"prompt": "x", "model": "dummy/faulty", "input": given})
    assert answer.status_code == 422, answer.text
    return answer.json()


# What the words mean


def test_places_are_found_wherever_the_schema_has_them():
    given = {"image": "a", "images": ["b", "c"], "word": "d", "strength": 0.5, "weights": "e"}

    found = dict(places(SCHEMA, given))

    assert found == {("image",): "a", ("images", 0): "b", ("images", 1): "c", ("weights",): "e"}
    assert replaced(given, lambda _, text: text.upper(), frozenset(found)) == {
        **given,
        "image": "A",
        "images": ["B", "C"],
        "weights": "E",
    }


def test_files_of_media_have_an_index():
    media_id = new_id()

    for words, index in ((f"media:{media_id}", 0), (f"media:{media_id}#2", 2), (f"media:{media_id}?index=3", 3)):
        assert read(words, allow_private=False) == OfMedia(media_id, index)


def test_data_uris_are_read_with_and_without_base64():
    assert read("data:text/plain;charset=utf-8,a%20b", allow_private=False) == Inline(b"a b")
    assert read("data:;base64,YWI=", allow_private=False) == Inline(b"ab")


# What a request is told at once


@pytest.mark.parametrize(
    ("words", "word"),
    [
        ("photo.png", "must be an https: URL"),
        ("http://example.com/a.png", "must be an https: URL"),
        ("file:///etc/passwd", "must be an https: URL"),
        ("file:../../secret", "must be an https: URL"),
        ("ftp://example.com/a.png", "must be an https: URL"),
        ("https://127.0.0.1/a.png", "public internet"),
        ("https://[::1]/a.png", "public internet"),
        ("https://169.254.169.254/latest/meta-data", "public internet"),
        ("https://localhost/a.png", "public internet"),
        ("https://2130706433/", "IPv4"),
        ("https://user:pw@example.com/", "user name"),
        ("https://example.com/a b", "percent-encode"),
        ("data:image/png;base64,AAAA", "cannot be used"),
        ("data:image/png;base64,?", "base64"),
        ("data:text/html,<script>alert(1)</script>", "cannot be used"),
        ("data:image/png;base64," + "A" * 300_000, "POST /files"),
        (f"media:{NOBODYS}", "no media of yours"),
        (f"file:{NOBODYS}", "no file of yours"),
    ],
)
async def test_a_file_that_cannot_be_is_refused_at_once(client, words, word):
    problem = await refused(client, images=[words])

    assert problem["code"] == "invalid_input_file"
    (wrong,) = problem["errors"]
    assert wrong["field"] == "input.images.0"
    assert word in wrong["message"]


async def test_files_and_media_of_others_are_not_there(client, db, at_work):
    uri = await handed_in(client)
    await at_work()
    media = await client.until(await ask(client))
    await db.execute("UPDATE uploads SET owner_id = $1", new_id())
    await db.execute("UPDATE media SET owner_id = $1", new_id())

    problem = await refused(client, image=uri, images=[f"media:{media['id']}"])

    assert [wrong["field"] for wrong in problem["errors"]] == ["input.image", "input.images.0"]


async def test_a_media_that_is_not_completed_or_has_no_such_file_is_named(client, at_work):
    waiting = await ask(client)
    assert "is IN_QUEUE" in (await refused(client, image=f"media:{waiting['id']}"))["detail"]

    await at_work()
    await client.until(waiting)

    assert "no file 1" in (await refused(client, image=f"media:{waiting['id']}#1"))["detail"]


async def test_naming_a_file_keeps_it(client, db):
    uri = await handed_in(client)
    await db.execute("UPDATE uploads SET expires_at = now() + interval '1 minute'")

    await ask(client, image=uri)

    (row,) = await db.fetch("SELECT expires_at - now() AS left FROM uploads")
    assert row["left"] > timedelta(hours=47)


async def test_a_request_under_a_key_is_joined_when_its_file_is_gone(client, db):
    body = {"prompt": "a", "model": "dummy/faulty", "input": {"image": await handed_in(client)}}
    key = {"Idempotency-Key": "order-17"}
    first = await client.api.post("/media/generate", json=body, headers=key)
    await db.execute("UPDATE uploads SET expires_at = now() - interval '1 minute'")

    again = await client.api.post("/media/generate", json=body, headers=key)
    refused = await client.api.post("/media/generate", json=body)

    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert refused.status_code == 422


async def test_so_many_files_and_no_more(client):
    assert "one file too many" in (await refused(client, images=["https://example.com/a.png"] * 33))["detail"]


# What the provider gets


async def test_small_files_are_handed_over_as_data_uris(client, provider, at_work):
    await at_work()
    first = await client.until(await ask(client))
    uri = await handed_in(client)

    done = await client.until(await ask(client, image=uri, images=[uri, data_uri(), f"media:{first['id']}"], word=uri))

    assert done["status"] == "COMPLETED", done
    given = provider.given[-1]
    assert given["image"] == given["images"][0] == given["images"][1] == data_uri()
    assert given["images"][2].startswith("data:image/png;base64,")
    assert given["word"] == uri
    assert done["input"]["image"] == uri
    assert given["weights"] == "https://example.com/usual.bin"


async def test_large_files_go_through_the_providers_own_upload(client, provider, at_work):
    uri = await handed_in(client, LARGE)
    await at_work()

    done = await client.until(await ask(client, image=uri, images=[uri]))

    assert done["status"] == "COMPLETED", done
    assert provider.uploaded == [("image/png", len(LARGE), LARGE)]
    assert provider.given == [{"image": "upload-1", "images": ["upload-1"], "weights": "https://example.com/usual.bin"}]


async def test_a_public_store_is_read_by_signed_urls(client, provider, at_work, engines):
    provider.capabilities = replace(provider.capabilities, reads_urls=True)
    uri = await handed_in(client)
    await at_work(s3_public_url="https://media.example.com")

    done = await client.until(await ask(client, images=[uri, "https://example.com/own.png", data_uri()]))

    assert done["status"] == "COMPLETED", done
    signed, own, inline = provider.given[-1]["images"]
    assert signed.startswith("https://media.example.com/fleek-test/uploads/")
    assert "X-Amz-Expires=86400" in signed
    assert own == "https://example.com/own.png"
    assert inline == data_uri()


async def test_data_that_is_too_large_for_the_provider_is_read_from_the_store(client, provider, at_work):
    provider.capabilities = replace(provider.capabilities, reads_urls=True, data_uri_bytes=0, uploads=False)
    await at_work(s3_public_url="https://media.example.com")

    done = await client.until(await ask(client, image=data_uri()))

    assert done["status"] == "COMPLETED", done
    assert provider.given[-1]["image"].startswith("https://media.example.com/fleek-test/uploads/")


async def test_what_the_provider_takes_in_no_way_is_refused_before_it_is_bought(client, provider, at_work):
    provider.capabilities = replace(provider.capabilities, uploads=False, reads_urls=True)
    uri = await handed_in(client, LARGE)
    await at_work()

    done = await client.until(await ask(client, image=uri))

    assert done["error"]["code"] == "input_refused"
    assert "store is not public" in done["error"]["message"]
    assert (await attempts_of(client, done), provider.given) == ([], [])


async def test_a_file_that_is_deleted_before_its_turn_ends_the_media(client, provider, at_work):
    uri = await handed_in(client)
    media = await ask(client, image=uri)
    assert (await client.api.delete(f"/files/{uri.removeprefix('file:')}")).status_code == 204
    await at_work()

    done = await client.until(media)

    assert (done["error"]["code"], provider.given) == ("input_refused", [])
    assert "input.image" in done["error"]["message"]


async def test_an_upload_that_fails_is_tried_again_and_nothing_is_bought_before(client, provider, at_work):
    provider.upload_errors = [BusyError("busy"), RuntimeError("defect")]
    uri = await handed_in(client, LARGE)
    await at_work()

    done = await client.until(await ask(client, image=uri))

    assert (done["status"], len(provider.given)) == ("COMPLETED", 1)


async def test_a_store_that_is_away_is_waited_for(client, provider, at_work, monkeypatch):
    uri = await handed_in(client)
    runner = await at_work()
    inputs = runner._generation.purchasing._inputs
    store, inputs._store = inputs._store, SimpleNamespace(get=_away)
    media = await ask(client, image=uri)
    history = f"/media/{media['id']}/history"

    async def events():
        return [item["event"] for item in (await client.api.get(history)).json()["items"]]

    await eventually(events, lambda seen: "handed_back" in seen or seen.count("claimed") > 1)
    assert provider.given == []
    inputs._store = store

    assert (await client.until(media))["status"] == "COMPLETED"


async def _away(_key):
    raise StoreUnavailableError("away")
    yield b""


async def test_a_lost_purchase_is_looked_for_with_the_input_that_was_bought(client, provider, at_work):
    provider.lose = True
    uri = await handed_in(client)
    await at_work()

    done = await client.until(await ask(client, image=uri))

    assert (done["status"], len(provider.given)) == ("COMPLETED", 1)
    assert provider.found[0]["image"] == data_uri()


# URLs of callers


@pytest.fixture
async def site():
    async with running(HttpServer()) as started:
        yield started


def answer(body=PNG, status="200 OK", **headers):
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{lines}Connection: close\r\n\r\n".encode() + body


async def test_a_url_that_the_provider_does_not_read_is_fetched_for_it(client, provider, at_work, site):
    site.answer = answer(**{"Content-Type": "text/html"})
    media = await _asked_by_url(client, site.url + "a.png?token=secret")
    await at_work(allow_private_addresses=True)

    done = await client.until(media)

    assert done["status"] == "COMPLETED", done
    assert provider.given[0]["image"] == data_uri()


async def _asked_by_url(client, url):
    """Asked with an address that this API would refuse: its worker is more generous, for a server of this machine."""
    media = await ask(client, image="https://example.com/stands-for-it")
    await client.db.execute(
        "UPDATE media SET input = jsonb_set(input::jsonb, '{image}', to_jsonb($2::text)) WHERE id = $1::uuid",
        media["id"],
        url,
    )
    return media


@pytest.fixture(autouse=True)
def _database(client, db):
    client.db = db


@pytest.mark.parametrize(
    ("reply", "code", "word"),
    [
        (answer(b"gone", "404 Not Found"), "input_refused", "answered 404"),
        (answer(b"no", "403 Forbidden"), "input_refused", "answered 403"),
        (answer(b"<html>"), "input_refused", "no picture"),
        (answer(b"", "302 Found", Location="file:///etc/passwd"), "input_refused", "redirect"),
        (answer(b"", "302 Found", Location="/again"), "input_refused", "redirects"),
        (answer(b"", "302 Found", Location="http://["), "input_refused", "redirect"),
        (answer(b"oops", "500 Internal Server Error"), "input_unreachable", "answered 500"),
    ],
)
async def test_a_file_that_cannot_be_fetched_says_why(client, at_work, site, reply, code, word):
    site.answer = reply
    media = await _asked_by_url(client, site.url)
    await at_work(allow_private_addresses=True, max_tries=2)

    done = await client.until(media)

    assert (done["error"]["code"], await attempts_of(client, done)) == (code, [])
    assert word in done["error"]["message"]
    assert done["error"]["message"].startswith("input.image: ")


async def test_a_file_that_is_too_large_is_not_read_to_its_end(client, provider, at_work, site):
    async def endless(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + PNG)
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    site.answer = endless
    media = await _asked_by_url(client, site.url)
    await at_work(allow_private_addresses=True, max_upload_bytes=200_000)

    done = await client.until(media)

    assert (done["error"]["code"], provider.given) == ("input_refused", [])
    assert "larger than 200000 bytes" in done["error"]["message"]


async def test_a_silent_site_is_tried_again(client, provider, at_work, site, monkeypatch):
    monkeypatch.setattr("app.jobs.inputs.download.PATIENCE", 0.3)

    over = asyncio.Event()

    async def silent(_writer):
        if site.connections == 1:
            await over.wait()
        _writer.write(answer())
        await _writer.drain()

    site.answer = silent
    media = await _asked_by_url(client, site.url)
    await at_work(allow_private_addresses=True)

    assert (await client.until(media))["status"] == "COMPLETED"
    assert site.connections >= 2
    over.set()


# Where nobody may send us: here the guard is on


def guarded(*answers):
    return HttpClient(allow_private_addresses=False, resolver=lambda: FixedResolver(*answers))


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00:ec2::254"])
async def test_a_name_that_leads_inside_is_refused_when_it_is_fetched(client, provider, at_work, address):
    media = await ask(client, image="https://example.com/a.png")
    await at_work(guarded([address]))

    done = await client.until(media)

    assert (done["error"]["code"], provider.given) == ("input_refused", [])
    assert "private or loopback" in done["error"]["message"]


@pytest.fixture
async def outside(monkeypatch):
    """A site with a name and a certificate, at an address that counts as public; 127.0.0.2 does not."""
    monkeypatch.setattr("app.core.http_client.address_guard.is_public", lambda address: address == "127.0.0.1")
    authority = trustme.CA()
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("example.com", "inside.example").configure_cert(theirs)
    authority.configure_trust(ours)
    async with running(HttpServer(), tls=theirs) as site:

        def outgoing(*answers):
            return HttpClient(allow_private_addresses=False, resolver=lambda: FixedResolver(*answers), tls=ours)

        yield site, outgoing


async def test_a_url_at_a_public_address_is_fetched(client, provider, at_work, outside):
    site, outgoing = outside
    site.answer = answer()
    await at_work(outgoing(["127.0.0.1"]))

    done = await client.until(await ask(client, image=f"https://example.com:{site.port}/a.png"))

    assert (done["status"], provider.given[0]["image"]) == ("COMPLETED", data_uri())


async def test_a_provider_that_would_read_it_from_inside_is_given_no_callers_url(client, provider, at_work, outside):
    provider.capabilities = replace(provider.capabilities, reads_urls=True, reads_inside=True)
    site, outgoing = outside
    site.answer = answer()
    await at_work(outgoing(["127.0.0.1"]))

    done = await client.until(await ask(client, image=f"https://example.com:{site.port}/a.png"))

    assert (done["status"], provider.given[0]["image"]) == ("COMPLETED", data_uri())


@pytest.mark.parametrize(
    "target",
    [
        "https://127.0.0.2:{port}/",
        "https://[::1]:{port}/",
        "https://169.254.169.254/latest/meta-data",
        "https://inside.example:{port}/",  # its name leads to 127.0.0.2
        "http://example.com:{port}/",
        "//localhost:{port}/",
        "data:image/png;base64,AAAA",
    ],
)
async def test_a_redirect_leads_nowhere_inside(client, provider, at_work, outside, target):
    site, outgoing = outside
    site.answer = answer(b"", "302 Found", Location=target.format(port=site.port))
    await at_work(outgoing(["127.0.0.1"], ["127.0.0.2"]))

    done = await client.until(await ask(client, image=f"https://example.com:{site.port}/a.png"))

    assert (done["error"]["code"], provider.given) == ("input_refused", [])
    assert len(site.requests) == 1


async def test_a_name_that_leads_elsewhere_the_second_time_is_looked_at_again(client, provider, at_work, outside):
    site, outgoing = outside
    client_of_worker = outgoing(["127.0.0.1"], ["127.0.0.2"])

    async def unwell(writer):
        for session in client_of_worker._sessions.values():
            session.connector.clear_dns_cache()  # as if its ten seconds were over
        writer.write(answer(b"", "503 Service Unavailable"))
        await writer.drain()

    site.answer = unwell
    await at_work(client_of_worker)

    done = await client.until(await ask(client, image=f"https://example.com:{site.port}/a.png"))

    assert (done["error"]["code"], provider.given) == ("input_refused", [])
    assert "private or loopback" in done["error"]["message"]
    assert len(site.requests) == 1
