"""URLs of callers: fetched by the worker, never from a private address."""

import asyncio
import ssl
from dataclasses import replace

import pytest
import trustme

from app.core.http_client.client import HttpClient
from tests.http_servers import FixedResolver, HttpServer, running
from tests.input_files import PNG, data_uri, generate
from tests.support import attempts_of


@pytest.fixture
async def site():
    async with running(HttpServer()) as started:
        yield started


def http_answer(body=PNG, status="200 OK", **headers):
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{lines}Connection: close\r\n\r\n".encode() + body


async def generate_with_url(client, db, url):
    """A media item whose input names a server of this machine, which the API refuses and this worker allows."""
    media = await generate(client, image="https://example.com/stands-for-it")
    await db.execute(
        "UPDATE media SET input = jsonb_set(input::jsonb, '{image}', to_jsonb($2::text)) WHERE id = $1::uuid",
        media["id"],
        url,
    )
    return media


async def test_url_is_fetched_for_a_provider_that_reads_none(client, db, provider, start_worker, site):
    site.answer = http_answer(**{"Content-Type": "text/html"})
    media = await generate_with_url(client, db, site.url + "a.png?token=secret")
    await start_worker(allow_private_addresses=True)

    done = await client.until(media)

    assert done["status"] == "COMPLETED", done
    assert provider.submitted_inputs[0]["image"] == data_uri()


@pytest.mark.parametrize(
    ("reply", "code", "message"),
    [
        (http_answer(b"gone", "404 Not Found"), "input_refused", "answered 404"),
        (http_answer(b"no", "403 Forbidden"), "input_refused", "answered 403"),
        (http_answer(b"<html>"), "input_refused", "no picture"),
        (http_answer(b"", "302 Found", Location="file:///etc/passwd"), "input_refused", "redirect"),
        (http_answer(b"", "302 Found", Location="/again"), "input_refused", "redirects"),
        (http_answer(b"", "302 Found", Location="http://["), "input_refused", "redirect"),
        (http_answer(b"oops", "500 Internal Server Error"), "input_unreachable", "answered 500"),
    ],
)
async def test_error_says_why_a_file_could_not_be_fetched(client, db, start_worker, site, *, reply, code, message):
    site.answer = reply
    media = await generate_with_url(client, db, site.url)
    await start_worker(allow_private_addresses=True, max_tries=2)

    done = await client.until(media)

    assert (done["error"]["code"], await attempts_of(client, done)) == (code, [])
    assert message in done["error"]["message"]
    assert done["error"]["message"].startswith("input.image: ")


async def test_too_large_file_is_not_read_to_its_end(client, db, provider, start_worker, site):
    async def endless(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + PNG)
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    site.answer = endless
    media = await generate_with_url(client, db, site.url)
    await start_worker(allow_private_addresses=True, max_upload_bytes=200_000)

    done = await client.until(media)

    assert (done["error"]["code"], provider.submitted_inputs) == ("input_refused", [])
    assert "larger than 200000 bytes" in done["error"]["message"]


async def test_silent_server_is_retried(client, db, provider, start_worker, site, monkeypatch):
    monkeypatch.setattr("app.jobs.inputs.download.PATIENCE", 0.3)
    done = asyncio.Event()

    async def silent(writer):
        if site.connections == 1:
            await done.wait()
        writer.write(http_answer())
        await writer.drain()

    site.answer = silent
    media = await generate_with_url(client, db, site.url)
    await start_worker(allow_private_addresses=True)

    assert (await client.until(media))["status"] == "COMPLETED"
    assert site.connections >= 2
    done.set()


def guarded_client(*answers):
    """A client for other servers that refuses private addresses; each look-up of a name has the next answer."""
    return HttpClient(allow_private_addresses=False, resolver=lambda: FixedResolver(*answers))


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00:ec2::254"])
async def test_name_with_a_private_address_is_refused(client, provider, start_worker, address):
    media = await generate(client, image="https://example.com/a.png")
    await start_worker(guarded_client([address]))

    done = await client.until(media)

    assert (done["error"]["code"], provider.submitted_inputs) == ("input_refused", [])
    assert "private or loopback" in done["error"]["message"]


@pytest.fixture
async def public_site(monkeypatch):
    """A server with a name and a certificate, at an address that counts as public; 127.0.0.2 does not."""
    monkeypatch.setattr("app.core.http_client.address_guard.is_public", lambda address: address == "127.0.0.1")
    authority = trustme.CA()
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("example.com", "inside.example").configure_cert(theirs)
    authority.configure_trust(ours)
    async with running(HttpServer(), tls=theirs) as site:

        def client_for(*answers):
            return HttpClient(allow_private_addresses=False, resolver=lambda: FixedResolver(*answers), tls=ours)

        yield site, client_for


async def test_url_at_a_public_address_is_fetched(client, provider, start_worker, public_site):
    site, client_for = public_site
    site.answer = http_answer()
    await start_worker(client_for(["127.0.0.1"]))

    done = await client.until(await generate(client, image=f"https://example.com:{site.port}/a.png"))

    assert (done["status"], provider.submitted_inputs[0]["image"]) == ("COMPLETED", data_uri())


async def test_provider_inside_the_network_gets_no_caller_url(client, provider, start_worker, public_site):
    provider.capabilities = replace(provider.capabilities, reads_urls=True, reads_inside=True)
    site, client_for = public_site
    site.answer = http_answer()
    await start_worker(client_for(["127.0.0.1"]))

    done = await client.until(await generate(client, image=f"https://example.com:{site.port}/a.png"))

    assert (done["status"], provider.submitted_inputs[0]["image"]) == ("COMPLETED", data_uri())


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
async def test_redirect_to_a_private_or_plain_address_is_refused(client, provider, start_worker, public_site, target):
    site, client_for = public_site
    site.answer = http_answer(b"", "302 Found", Location=target.format(port=site.port))
    await start_worker(client_for(["127.0.0.1"], ["127.0.0.2"]))

    done = await client.until(await generate(client, image=f"https://example.com:{site.port}/a.png"))

    assert (done["error"]["code"], provider.submitted_inputs) == ("input_refused", [])
    assert len(site.requests) == 1


async def test_name_is_checked_again_at_each_attempt(client, provider, start_worker, public_site):
    site, client_for = public_site
    client_of_worker = client_for(["127.0.0.1"], ["127.0.0.2"])

    async def unavailable(writer):
        for session in client_of_worker._sessions.values():
            session.connector.clear_dns_cache()  # as if its ten seconds had passed
        writer.write(http_answer(b"", "503 Service Unavailable"))
        await writer.drain()

    site.answer = unavailable
    await start_worker(client_of_worker)

    done = await client.until(await generate(client, image=f"https://example.com:{site.port}/a.png"))

    assert (done["error"]["code"], provider.submitted_inputs) == ("input_refused", [])
    assert "private or loopback" in done["error"]["message"]
    assert len(site.requests) == 1
