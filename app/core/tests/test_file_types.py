"""Files recognised by their bytes, and truncated files detected."""

import pytest

from app.core.file_types import HEAD_BYTES, EndDetector, Kind, describe
from app.media_generator.dummy_media_generator.png import png_of_about
from tests.sample_media import MP4, WAV, picture, video

JPEG = picture("jpeg", exif=b"Exif\0\0" + picture("jpeg") + b"\xff\xd9")


def is_complete(content, *types):
    ending = EndDetector(describe(content[:HEAD_BYTES], types), content[:HEAD_BYTES])
    for start in range(0, len(content), 7):
        ending.feed(content[start : start + 7])
    return ending.is_complete


@pytest.mark.parametrize("bytes_", [b"", b"\x00", b"\xff\xfe\xfd", bytes(5_000), b"\x80text"])
def test_what_nobody_knows_is_a_stream_of_bytes(bytes_):
    assert describe(bytes_) == Kind("application/octet-stream", "bin")


@pytest.mark.parametrize(
    ("bytes_", "types", "kind"),
    [
        (b'{"a": 1}', [], "application/json"),
        (b'{"a": 1}', ["text/plain"], "text/plain"),
        (b'{"a": 1}', ["text/plain", "application/json"], "application/json"),
        (b'{"asset": {"version": "2.0"}}', [], "model/gltf+json"),
        (b'{"asset": {"version": "2.0"}}', ["application/json"], "application/json"),
        (b"BMW is a maker of cars, and not of bitmaps", [], "text/plain"),
        (b"ID3 is how a text may begin, and P5 as well", [], "text/plain"),
        (b"v 1 2 are no corners", [], "text/plain"),
        (b"<p>a part of a page</p>", [], "text/plain"),
    ],
)
def test_text_is_told_from_what_begins_like_it(bytes_, types, kind):
    assert describe(bytes_, types).media_type == kind


def test_size_is_left_out_where_the_beginning_is_too_short():
    assert describe(b"\x89PNG\r\n\x1a\n") == Kind("image/png", "png")


@pytest.mark.parametrize("name", ["moov", "ABCD", "\x01\x02\x03\x04"])
def test_bytes_behind_a_video_are_no_proof_that_it_is_cut_off(name):
    """Only a box of the format's own, of which a part is missing, is one."""
    behind = b"\x00\x01\x00\x00" + name.encode() + bytes(50)

    assert is_complete(MP4 + behind) == (name != "moov")


def test_png_is_recognised_by_its_bytes():
    assert describe(png_of_about(5000)[:100]) == Kind("image/png", "png", 256, 19)


def test_truncated_video_or_sound_is_incomplete():
    webm = video("webm", "libvpx", frames=30)

    for content in (MP4, WAV, webm):
        assert is_complete(content)
    assert not is_complete(MP4[: len(MP4) // 2])
    assert not is_complete(WAV[:-1])
    assert not is_complete(webm[: len(webm) // 2])
    assert is_complete(WAV[:4] + b"\xff" * 4 + WAV[8:-4])


@pytest.mark.parametrize("content", [picture("png"), picture("gif"), picture("webp"), picture("jpeg"), JPEG])
def test_truncated_picture_is_incomplete(content):
    assert is_complete(content)
    assert not any(is_complete(content[:size]) for size in (len(content) * 2 // 3, len(content) - 1))


@pytest.mark.parametrize("content", [picture("png"), picture("webp"), JPEG, picture("jpeg", progressive=True)])
def test_picture_with_trailing_data_is_complete(content):
    assert is_complete(content + b"SEFT" + bytes(20) + MP4)


@pytest.mark.parametrize("size", [20, 21, 22, 23, 24, 25])
def test_jpeg_truncated_in_its_header_segments_is_incomplete(size):
    described = b"\xff\xd8\xff\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0" + JPEG[2:]
    ending = EndDetector(describe(JPEG), described[:size])
    ending.feed(described[:size])

    assert not ending.is_complete
