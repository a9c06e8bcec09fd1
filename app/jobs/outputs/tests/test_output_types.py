"""Outputs of every type: pictures, video, sound, text; what is probed of each, and what is refused."""

import io
import json
from contextlib import suppress
from dataclasses import replace

import httpx2
import pytest
from PIL import Image

from app.jobs.outputs import probe
from app.main import create_app
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.registry import Registry
from tests.sample_media import MP4, WAV, WEBM
from tests.support import PUBLIC_URL, Client

PLAIN = ("text/plain", "text/plain; charset=utf-8")


class FixedOutputModel(DummyMediaGeneratorModel):
    """Delivers what the test says."""

    def __init__(self):
        super().__init__()
        self.content = b""
        self.types = ("image/png",)

    def models(self):
        return [replace(card, output_types=self.types) for card in super().models()]

    async def open(self, output):
        for start in range(0, len(self.content), 30_000):
            yield self.content[start : start + 30_000]


@pytest.fixture
def provider():
    return FixedOutputModel()


@pytest.fixture
async def client(settings, bell, provider):
    app = create_app(settings, bell, Registry([provider]))
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url=PUBLIC_URL) as api:
        yield Client(api)


async def generate_output(client, working, provider, content, *types):
    """The finished media of a model that declares these types and delivers this content."""
    provider.content, provider.types = content, types
    await working(provider)
    return await client.until(await client.faulty())


async def bytes_at(client, url):
    redirect = await client.api.get(url)
    assert redirect.status_code == 307, redirect.text
    async with httpx2.AsyncClient(trust_env=False) as store:
        return await store.get(redirect.headers["location"])


@pytest.mark.parametrize(("content", "kind"), [(MP4, "video/mp4"), (WEBM, "video/webm")])
async def test_video_output_has_size_duration_and_poster(client, working, provider, content, kind):
    done = await generate_output(client, working, provider, content, kind)

    (file,) = done["files"]
    assert (file["media_type"], file["width"], file["height"]) == (kind, 64, 48)
    assert file["seconds"] == pytest.approx(2, abs=0.5)
    assert (await bytes_at(client, file["url"])).content == content
    poster = await bytes_at(client, file["poster_url"])
    assert poster.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(poster.content)).size == (64, 48)
    assert file["poster_url"] == f"{file['url']}&rendition=poster"


async def test_audio_output_has_duration_and_no_poster(client, working, provider):
    done = await generate_output(client, working, provider, WAV, "audio/wav")

    (file,) = done["files"]
    assert (file["media_type"], file["seconds"], file["width"], file["poster_url"]) == ("audio/wav", 1.0, None, None)
    answer = await client.api.get(f"{file['url']}&rendition=poster")
    assert (answer.status_code, answer.json()["code"]) == (404, "file_not_found")


async def test_without_the_av_extra_probed_fields_are_null(client, working, provider, monkeypatch):
    monkeypatch.setattr(probe, "AVAILABLE", False)

    done = await generate_output(client, working, provider, MP4, "video/mp4")

    (file,) = done["files"]
    assert [file[name] for name in ("width", "height", "seconds", "poster_url")] == [None] * 4


@pytest.mark.parametrize("fault", ["broken", "slow"])
async def test_video_is_delivered_when_its_probe_fails(client, working, provider, monkeypatch, tmp_path, fault):
    program = tmp_path / "probe.py"
    program.write_text({"broken": "import os; os.abort()", "slow": "import time; time.sleep(60)"}[fault])
    monkeypatch.setattr(probe, "PROGRAM", program)
    monkeypatch.setattr(probe, "LONGEST", 1.0)

    done = await generate_output(client, working, provider, MP4, "video/mp4")

    assert (done["status"], done["files"][0]["seconds"]) == ("COMPLETED", None)


async def test_probe_opens_no_other_file(tmp_path):
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(MP4)
    playlist = tmp_path / "file"
    playlist.write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n")

    for kind in set(probe.FORMATS.values()):
        with suppress(RuntimeError):
            assert probe._run_process(kind, tmp_path, 1_000_000).width is None
        assert not (tmp_path / "poster").exists()


async def test_video_with_too_many_pixels_has_no_poster(tmp_path):
    (tmp_path / "file").write_bytes(MP4)

    probed = probe._run_process("mp4", tmp_path, 64 * 48 - 1)

    assert (probed.width, probed.height) == (64, 48)
    assert not (tmp_path / "poster").exists()


@pytest.mark.parametrize(
    ("content", "types", "expected"),
    [
        ("ein schöner Tag\n".encode(), ["text/plain"], PLAIN),
        (b"<html><script>alert(1)</script>", ["text/html"], ("text/html", PLAIN[1])),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ["image/svg+xml"], ("image/svg+xml", PLAIN[1])),
        (b' {"a": [1, 2]}\n', ["application/json"], ("application/json",) * 2),
        (json.dumps(["x" * 50] * 5_000).encode(), ["application/json"], ("application/json",) * 2),
        (("é" * 100_000).encode(), ["text/plain"], PLAIN),
    ],
)
async def test_text_output_is_accepted_from_a_text_model(client, working, provider, content, types, expected):
    done = await generate_output(client, working, provider, content, *types)

    assert done["status"] == "COMPLETED", done
    (file,) = done["files"]
    delivered = await bytes_at(client, file["url"])
    assert (file["bytes"], delivered.content) == (len(content), content)
    assert (file["media_type"], delivered.headers["content-type"]) == expected


@pytest.mark.parametrize(
    ("content", "types", "message"),
    [
        (b"hello", ["image/png"], "text in place of a result: 'hello'"),
        (b'{"error": "too many requests"}', ["image/png", "video/mp4"], "text in place of a result"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", ["image/png"], "AccessDenied"),
        (b"", ["text/plain"], "an empty file"),
        (b" <!doctype HTML><title>502</title>", ["text/plain"], "an HTML page"),
    ],
)
async def test_what_is_nothing_of_what_was_bought_fails_the_media(client, working, provider, content, types, message):
    done = await generate_output(client, working, provider, content, *types)

    assert (done["status"], done["error"]["code"], done["files"]) == ("ERROR", "output_invalid", [])
    assert message in done["error"]["message"]


@pytest.mark.parametrize(
    ("content", "types", "code"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ["image/png"], None),
        (b"no json", ["application/json"], None),
        (b"%PDF-1.7 ...", ["image/png"], None),
        (b"a\x00b", ["text/plain"], "unknown_type"),
        (b"\xff\xfe\x80abc", ["text/plain"], "unknown_type"),
        (b"a" * 70_000 + b"\xff", ["text/plain"], "unknown_type"),
        (b"many words " * 7_000, ["image/png"], "unexpected_text"),
        (b"[" + b"1," * 40_000, ["application/json"], "cut_off"),
        (MP4[:-40], ["video/mp4"], "cut_off"),
        (WAV[:-10], ["audio/wav"], "cut_off"),
    ],
)
async def test_whatever_else_comes_is_kept(client, working, provider, content, types, code):
    done = await generate_output(client, working, provider, content, *types)

    assert done["status"] == "COMPLETED", done["error"]
    (file,) = done["files"]
    assert [one["code"] for one in file["warnings"]] == ([] if code is None else [code])
    assert (await bytes_at(client, file["url"])).content == content


def test_probe_process_imports_no_product_code():
    assert "import app" not in probe.PROGRAM.read_text()
    assert "from app" not in probe.PROGRAM.read_text()
