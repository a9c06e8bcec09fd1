"""Files recognised by their bytes, and truncated files detected."""

import pytest

from app.core.file_types import HEAD_BYTES, EndDetector, Kind, NotMediaError, inspect
from app.media_generator.dummy_media_generator.png import png_of_about
from tests.sample_media import MP4, WAV, picture, video

JPEG = picture("jpeg", exif=b"Exif\0\0" + picture("jpeg") + b"\xff\xd9")


def is_complete(content, *types):
    ending = EndDetector(inspect(content[:HEAD_BYTES], types), content[:HEAD_BYTES])
    for start in range(0, len(content), 7):
        ending.feed(content[start : start + 7])
    return ending.is_complete


@pytest.mark.parametrize("bytes_", [b"", b"hello", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n"])
def test_unknown_or_empty_bytes_are_refused(bytes_):
    with pytest.raises(NotMediaError):
        inspect(bytes_)


def test_png_is_recognised_by_its_bytes():
    assert inspect(png_of_about(5000)[:100]) == Kind("image/png", "png", 256, 19)


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
    ending = EndDetector(inspect(JPEG), described[:size])
    ending.feed(described[:size])

    assert not ending.is_complete


def test_png_bytes_are_refused_as_text():
    with pytest.raises(NotMediaError):
        inspect(b"\x89PNG\r\n\x1a\n" + b"x" * 100, ["text/plain"])
