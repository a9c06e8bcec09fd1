"""Everything that a model may make: pictures, video, sound, text; what is known of each, and what is refused."""

import io
import json
import wave
from contextlib import suppress
from dataclasses import replace

import av
import httpx2
import pytest
from av.video.frame import VideoFrame
from PIL import Image

from app.core.file_types import HEAD_BYTES, NotMediaError, Tail, inspect
from app.jobs.outputs import probe
from app.main import create_app
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.registry import Registry
from tests.support import PUBLIC_URL, Client


def video(container="mp4", codec="mpeg4", size=(64, 48), frames=10, rate=5):
    made = io.BytesIO()
    with av.open(made, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            frame = VideoFrame.from_image(Image.new("RGB", size, (number * 20, 100, 50)))
            for packet in stream.encode(frame):
                output.mux(packet)
        for packet in stream.encode():
            output.mux(packet)
    return made.getvalue()


def sound(seconds=1, rate=8_000):
    made = io.BytesIO()
    with wave.open(made, "wb") as output:
        output.setnchannels(1)
        output.setsampwidth(2)
        output.setframerate(rate)
        output.writeframes(b"\x00\x01" * rate * seconds)
    return made.getvalue()


PLAIN = ("text/plain", "text/plain; charset=utf-8")
MP4, WEBM, WAV = video(), video("webm", "libvpx"), sound()


class Maker(DummyMediaGeneratorModel):
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
    return Maker()


@pytest.fixture
async def client(settings, bell, provider):
    app = create_app(settings, bell, Registry([provider]))
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url=PUBLIC_URL) as api:
        yield Client(api)


async def made(client, working, provider, content, *types):
    provider.content, provider.types = content, types
    await working(provider)
    return await client.until(await client.faulty())


async def bytes_at(client, url):
    leads_to = await client.api.get(url)
    assert leads_to.status_code == 307, leads_to.text
    async with httpx2.AsyncClient() as outside:
        return await outside.get(leads_to.headers["location"])


@pytest.mark.parametrize(("content", "kind"), [(MP4, "video/mp4"), (WEBM, "video/webm")])
async def test_a_video_has_a_size_a_length_and_a_poster(client, working, provider, content, kind):
    done = await made(client, working, provider, content, kind)

    (file,) = done["files"]
    assert (file["media_type"], file["width"], file["height"]) == (kind, 64, 48)
    assert file["seconds"] == pytest.approx(2, abs=0.5)
    assert (await bytes_at(client, file["url"])).content == content
    poster = await bytes_at(client, file["poster_url"])
    assert poster.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(poster.content)).size == (64, 48)
    assert file["poster_url"] == f"{file['url']}&rendition=poster"


async def test_a_sound_has_a_length_and_no_poster(client, working, provider):
    done = await made(client, working, provider, WAV, "audio/wav")

    (file,) = done["files"]
    assert (file["media_type"], file["seconds"], file["width"], file["poster_url"]) == ("audio/wav", 1.0, None, None)
    answer = await client.api.get(f"{file['url']}&rendition=poster")
    assert (answer.status_code, answer.json()["code"]) == (404, "file_not_found")


async def test_without_the_extra_the_fields_are_null(client, working, provider, monkeypatch):
    monkeypatch.setattr(probe, "AVAILABLE", False)

    done = await made(client, working, provider, MP4, "video/mp4")

    (file,) = done["files"]
    assert [file[name] for name in ("width", "height", "seconds", "poster_url")] == [None] * 4


@pytest.mark.parametrize("harm", ["broken", "slow"])
async def test_a_video_that_cannot_be_looked_into_is_delivered_all_the_same(
    client, working, provider, monkeypatch, tmp_path, harm
):
    program = tmp_path / "probe.py"
    program.write_text({"broken": "import os; os.abort()", "slow": "import time; time.sleep(60)"}[harm])
    monkeypatch.setattr(probe, "PROGRAM", program)
    monkeypatch.setattr(probe, "LONGEST", 1.0)

    done = await made(client, working, provider, MP4, "video/mp4")

    assert (done["status"], done["files"][0]["seconds"]) == ("COMPLETED", None)


async def test_the_program_that_looks_opens_no_other_file(tmp_path):
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(MP4)
    playlist = tmp_path / "file"
    playlist.write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n")

    for kind in set(probe.FORMATS.values()):
        with suppress(RuntimeError):
            assert probe._probe(kind, tmp_path, 1_000_000).width is None
        assert not (tmp_path / "poster").exists()


async def test_a_video_with_too_many_pixels_has_no_poster(tmp_path):
    (tmp_path / "file").write_bytes(MP4)

    found = probe._probe("mp4", tmp_path, 64 * 48 - 1)

    assert (found.width, found.height) == (64, 48)
    assert not (tmp_path / "poster").exists()


@pytest.mark.parametrize(
    ("content", "types", "expected"),
    [
        ("ein schöner Tag\n".encode(), ["text/plain"], PLAIN),
        (b"<html><script>alert(1)</script>", ["text/html"], PLAIN),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ["image/svg+xml"], PLAIN),
        (b' {"a": [1, 2]}\n', ["application/json"], ("application/json",) * 2),
        (json.dumps(["x" * 50] * 5_000).encode(), ["application/json"], ("application/json",) * 2),
        (("é" * 100_000).encode(), ["text/plain"], PLAIN),
    ],
)
async def test_text_is_taken_where_the_model_makes_text(client, working, provider, content, types, expected):
    done = await made(client, working, provider, content, *types)

    assert done["status"] == "COMPLETED", done
    (file,) = done["files"]
    given = await bytes_at(client, file["url"])
    assert (file["bytes"], given.content) == (len(content), content)
    assert (file["media_type"], given.headers["content-type"]) == expected


@pytest.mark.parametrize(
    ("content", "types"),
    [
        (b"hello", ["image/png"]),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ["image/png"]),
        (b"no json", ["application/json"]),
        (b"a\x00b", ["text/plain"]),
        (b"\xff\xfeabc", ["text/plain"]),
        (b"", ["text/plain"]),
        (b"a" * 70_000 + b"\xff", ["text/plain"]),
        (b"[" + b"1," * 40_000, ["application/json"]),
        (b"%PDF-1.7 ...", ["application/pdf"]),
        (MP4[:-40], ["video/mp4"]),
        (WAV[:-10], ["audio/wav"]),
    ],
)
async def test_what_the_model_did_not_promise_or_did_not_finish_is_refused(client, working, provider, content, types):
    done = await made(client, working, provider, content, *types)

    assert done["error"]["code"] == "output_invalid", done


def whole(content, *types):
    ending = Tail(inspect(content[:HEAD_BYTES], types), content[:HEAD_BYTES])
    for start in range(0, len(content), 7):
        ending.see(content[start : start + 7])
    return ending.is_reached


def test_a_format_that_says_where_it_ends_is_believed():
    webm = video("webm", "libvpx", frames=30)

    for content in (MP4, WAV, webm):
        assert whole(content)
    assert not whole(MP4[: len(MP4) // 2])
    assert not whole(WAV[:-1])
    assert not whole(webm[: len(webm) // 2])
    assert whole(WAV[:4] + b"\xff" * 4 + WAV[8:-4])


def picture(media_type, **options):
    made = io.BytesIO()
    Image.effect_noise((64, 48), 100).save(made, media_type, **options)
    return made.getvalue()


JPEG = picture("jpeg", exif=b"Exif\0\0" + picture("jpeg") + b"\xff\xd9")


@pytest.mark.parametrize("content", [picture("png"), picture("gif"), picture("webp"), picture("jpeg"), JPEG])
def test_a_picture_is_whole_only_to_its_end(content):
    assert whole(content)
    assert not any(whole(content[:size]) for size in (len(content) * 2 // 3, len(content) - 1))


@pytest.mark.parametrize("content", [picture("png"), picture("webp"), JPEG, picture("jpeg", progressive=True)])
def test_what_cameras_and_programs_put_behind_a_picture_does_no_harm(content):
    assert whole(content + b"SEFT" + bytes(20) + MP4)


@pytest.mark.parametrize("size", [20, 21, 22, 23, 24, 25])
def test_a_jpeg_that_ends_among_what_describes_it_is_not_whole(size):
    described = b"\xff\xd8\xff\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0" + JPEG[2:]
    ending = Tail(inspect(JPEG), described[:size])
    ending.see(described[:size])

    assert not ending.is_reached


def test_a_picture_cannot_pass_for_text():
    with pytest.raises(NotMediaError):
        inspect(b"\x89PNG\r\n\x1a\n" + b"x" * 100, ["text/plain"])


def test_the_program_that_looks_imports_nothing_of_ours():
    assert "import app" not in probe.PROGRAM.read_text()
    assert "from app" not in probe.PROGRAM.read_text()
