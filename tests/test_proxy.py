"""The committed nginx configuration: a real nginx in front of API and store, reached by TLS as clients do."""

import asyncio
import io
import re
import ssl
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from PIL import Image

from app.core.http_server.hot_route import MAX_BODY_BYTES
from app.core.http_server.prefer import MAX_SECONDS
from app.core.http_server.sse import PING_SECONDS
from app.core.ids import new_id
from tests.fleek_cli import free_api_port
from tests.support import Client, eventually, make_settings, served
from tests.system_servers import Server, find

CONFIGURATION = Path(__file__).parents[1] / "deploy" / "nginx" / "fleek.conf"
FRAME = """
daemon off;
user {user} {group};
worker_processes 1;
pid {folder}/pid;
error_log stderr;
events {{ worker_connections 128; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/fleek.conf;
}}
"""


class Nginx(Server):
    """With the committed configuration; only addresses and certificates are the test's."""

    def __init__(self, folder: Path) -> None:
        self.plain = free_api_port()
        port = free_api_port()
        certificate = [
            *(find("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", "/CN=example.com", "-keyout", str(folder / "key"), "-out", str(folder / "crt")),
        ]
        subprocess.run(certificate, check=True, capture_output=True)
        super().__init__(folder, find("nginx", "nginx"), "-c", str(folder / "nginx.conf"), "-p", str(folder), port=port)

    def lead_to(self, api: str, files: str) -> None:
        """Write the configuration: where the two upstreams are."""
        text = CONFIGURATION.read_text()
        replaced = {
            r"server 127\.0\.0\.1:8000;": f"server {urlsplit(api).netloc};",
            r"server 127\.0\.0\.1:4566;": f"server {urlsplit(files).netloc};",
            r"listen 443 ssl;": f"listen 127.0.0.1:{self.port} ssl;",
            r"listen 80;": f"listen 127.0.0.1:{self.plain};",
            r"/etc/ssl/fleek/\w+\.(crt|key);": rf"{self.folder}/\1;",
        }
        for pattern, there in replaced.items():
            text, found = re.subn(pattern, there, text)
            assert found, pattern
        (self.folder / "fleek.conf").write_text(text)
        (self.folder / "nginx.conf").write_text(
            FRAME.format(folder=self.folder, user=self.folder.owner(), group=self.folder.group())
        )

    async def ask(self, client: httpx2.AsyncClient, method: str, url: str, **options):
        """Ask for a URL of one of the two names, which lead here."""
        where = urlsplit(url)
        here = where._replace(netloc=f"127.0.0.1:{self.port}").geturl()
        options["headers"] = {**options.get("headers", {}), "host": where.netloc}
        return await client.request(method, here, extensions={"sni_hostname": where.hostname}, **options)


@pytest.fixture
def nginx(tmp_path):
    folder = tmp_path / "nginx"
    folder.mkdir()
    server = Nginx(folder)
    yield server
    server.kill()


@pytest.fixture
async def browser():
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    async with httpx2.AsyncClient(verify=trusting, timeout=40, trust_env=False) as client:
        yield client


@pytest.fixture
async def outside(nginx, browser, engines, database, tmp_path):
    """Settings of a product that stands behind it, and its address."""
    settings = make_settings(
        engines,
        database_url=database,
        public_url=f"https://media.example.com:{nginx.port}",
        s3_public_url=f"https://files.example.com:{nginx.port}",
    )
    with served(settings, tmp_path / "api.log", PUBLIC_URL=settings.public_url) as api:
        nginx.lead_to(api, settings.s3_endpoint_url)
        with nginx:
            async with httpx2.AsyncClient(base_url=api, trust_env=False) as inside:
                await eventually(Client(inside).answers)
            yield settings.public_url


@pytest.fixture
def settings(engines, database, nginx):
    return make_settings(engines, database_url=database)


async def test_from_prompt_to_picture_through_the_proxy(nginx, browser, outside, runner):
    asked = await nginx.ask(
        browser,
        "POST",
        f"{outside}/media/generate",
        json={"prompt": "a lighthouse", "model": "dummy/faulty", "input": {"delay": 0.5}},
        headers={"prefer": "wait=30"},
    )
    assert (asked.status_code, asked.json()["status"]) == (200, "COMPLETED"), asked.text

    redirect = await nginx.ask(browser, "GET", asked.json()["files"][0]["url"])
    picture = await nginx.ask(browser, "GET", redirect.headers["location"])
    written = await nginx.ask(browser, "PUT", redirect.headers["location"], content=b"mine")

    assert redirect.status_code == 307
    assert picture.headers["x-content-type-options"] == "nosniff"
    assert urlsplit(redirect.headers["location"]).hostname == "files.example.com"
    assert picture.status_code == 200, picture.text
    assert picture.content.startswith(b"\x89PNG")
    assert written.status_code == 403
    assert "nginx" in written.text, "the store is not asked"


async def test_files_come_through_it_whatever_their_size(nginx, browser, outside):
    noise = io.BytesIO()
    Image.effect_noise((2000, 2000), 200).save(noise, "png")
    size = len(noise.getvalue())

    taken = await nginx.ask(browser, "POST", f"{outside}/files", files={"file": ("noise.png", noise.getvalue())})
    called = await nginx.ask(browser, "POST", f"{outside}/media/callbacks/nobody/{new_id()}", content=b"x" * size)
    asked = await nginx.ask(browser, "POST", f"{outside}/media/generate", content=b"x" * size)

    assert size > 2 * 1024 * 1024
    assert (taken.status_code, taken.json()["bytes"]) == (201, size)
    assert called.json()["code"] == "provider_not_found"
    assert "nginx" in asked.text


async def test_what_is_for_the_operator_stays_inside(nginx, browser, outside):
    seen = {
        path: (await nginx.ask(browser, "GET", f"{outside}/tools/{path}")).status_code
        for path in ("status", "metrics", "ready", "celery_status")
    }
    plain = await browser.get(f"http://127.0.0.1:{nginx.plain}/models", headers={"host": "media.example.com"})

    assert seen == {"status": 200, "metrics": 404, "ready": 404, "celery_status": 404}
    assert (plain.status_code, plain.headers["location"]) == (301, "https://media.example.com/models")


async def test_the_api_itself_says_that_a_body_is_too_large(nginx, browser, outside):
    body = {"prompt": "x" * (MAX_BODY_BYTES + 1)}
    answer = await nginx.ask(browser, "POST", f"{outside}/media/generate", json=body)

    assert answer.status_code == 413, answer.text
    assert answer.json()["code"] == "content_too_large"


async def test_an_event_arrives_before_the_next_one_is_sent(nginx, browser):
    received = asyncio.Event()

    async def stream(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for event in (b"data: 1\n\n", b"data: 2\n\n"):
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            await writer.drain()
            await received.wait()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(stream, "127.0.0.1", 0) as server:
        upstream = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        nginx.lead_to(upstream, upstream)
        with nginx:
            where = f"https://127.0.0.1:{nginx.port}/media/events"
            options = {"headers": {"host": "media.example.com"}, "extensions": {"sni_hostname": "media.example.com"}}
            async with asyncio.timeout(20), browser.stream("GET", where, **options) as answer:
                pieces = answer.aiter_bytes()
                first = await anext(pieces)
                received.set()
                rest = b"".join([piece async for piece in pieces])

    assert (first, rest) == (b"data: 1\n\n", b"data: 2\n\n")


def test_the_proxy_is_more_patient_than_the_longest_silence():
    (seconds,) = re.findall(r"proxy_read_timeout (\d+)s;", CONFIGURATION.read_text())
    (caddy,) = re.findall(r"response_header_timeout (\d+)s", (CONFIGURATION.parents[1] / "caddy/Caddyfile").read_text())

    assert int(seconds) > max(MAX_SECONDS, PING_SECONDS) + 5
    assert int(caddy) > MAX_SECONDS + 5
