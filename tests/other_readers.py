"""What programs and libraries that are not ours find in a file and make of it."""

import io
import json
import shutil
import subprocess

from PIL import Image, ImageSequence

from tests.marked_files import HAS_AV

PILLOW_READS = {"png", "jpeg", "webp", "gif", "tiff"}
"""Formats whose XMP Pillow reads; for AVIF it knows the XMP of an item only."""
EXIV2_READS = {"png", "jpeg", "webp", "tiff"}
FFPROBE_READS = {"mp4", "mov", "m4a", "avif", "webm", "mkv", "mp3", "flac", "vorbis", "opus"}
EXIFTOOL_FIELDS = ("DigitalSourceType", "MediaId", "Model", "Xmp")
HAS_EXIFTOOL = shutil.which("exiftool") is not None
"""It reads all formats."""


def run(*command):
    return subprocess.run(command, capture_output=True, check=False, timeout=60).stdout


def by_pillow(path):
    with Image.open(path) as image:
        image.load()
        name, place = image.info.get("extension", (b"", 0))
        if name == b"XMP DataXMP":  # of a GIF it tells only where it is
            return path.read_bytes()[place : place + 2_000]
        found = image.info.get("xmp", b"")
        return found if isinstance(found, bytes) else found.encode()


def all_by_exiftool(folder):
    """Of each file of a folder, by its name."""
    wanted = [f"-{name}" for name in EXIFTOOL_FIELDS]
    found = json.loads(run("exiftool", "-q", "-r", "-json", "-ee", "-n", *wanted, folder))
    return {
        fields["SourceFile"].rpartition("/")[2]: json.dumps([fields.get(name) for name in EXIFTOOL_FIELDS]).encode()
        for fields in found
    }


def by_exiv2(path):
    return run("exiv2", "-px", path)


def by_ffprobe(path):
    entries = "format_tags:stream_tags"
    return run("ffprobe", "-v", "error", "-export_xmp", "1", "-show_entries", entries, path)


READERS = {
    "Pillow": (by_pillow, PILLOW_READS, True),
    "exiv2": (by_exiv2, EXIV2_READS, shutil.which("exiv2") is not None),
    "ffprobe": (by_ffprobe, FFPROBE_READS, shutil.which("ffprobe") is not None),
}


def pixels(data):
    """Every frame of a picture, with its duration."""
    with Image.open(io.BytesIO(data)) as image:
        return [
            (frame.mode, frame.size, frame.info.get("duration"), frame.tobytes())
            for frame in ImageSequence.Iterator(image)
        ]


def samples(data):
    """Every frame of a video or sound, as it is decoded, and its time."""
    assert HAS_AV
    import av  # noqa: PLC0415 - an extra

    found = []
    with av.open(io.BytesIO(data)) as container:
        for stream in container.streams:
            container.seek(0)
            found += [(stream.index, frame.pts, frame.to_ndarray().tobytes()) for frame in container.decode(stream)]
    return found
