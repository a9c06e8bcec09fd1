"""Which formats have a place for a mark, recognised by their first bytes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from app.provenance.containers import bmff, gif, id3, jpeg, matroska, png, riff, tiff, vorbis
from app.provenance.window import Walk, Window

HEAD_BYTES: Final = 12
"""Bytes that are enough to recognise a format."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format with a place."""

    names: str
    """Of its kinds of files."""
    media_types: tuple[str, ...]
    place: str
    """Where the mark is, for the docs."""
    c2pa: str
    """Where a C2PA manifest would be; empty: the C2PA specification names no place."""
    recognises: Callable[[bytes], bool]
    walk: Callable[[Window], Walk]
    last: bool = False
    """Whether the mark is the last of several packets, and not the first one."""


FORMATS: Final = (
    Format(
        "PNG, APNG",
        ("image/png", "image/apng"),
        "`iTXt` chunk `XML:com.adobe.xmp` behind `IHDR`",
        "`caBX`",
        lambda head: head.startswith(png.SIGNATURE),
        png.walk,
    ),
    Format(
        "JPEG",
        ("image/jpeg",),
        "APP1 segment behind JFIF and Exif",
        "APP11 (JUMBF)",
        lambda head: head.startswith(jpeg.SIGNATURE),
        jpeg.walk,
    ),
    Format(
        "WebP",
        ("image/webp",),
        "chunk `XMP `, the last one",
        "`C2PA`",
        lambda head: head.startswith(riff.SIGNATURE) and head[8:12] == b"WEBP",
        riff.walk,
        last=True,
    ),
    Format(
        "GIF",
        ("image/gif",),
        "application extension `XMP DataXMP` before the first picture",
        "application extension `C2PA_GIF`",
        lambda head: head.startswith(gif.SIGNATURES),
        gif.walk,
    ),
    Format(
        "TIFF, BigTIFF",
        ("image/tiff",),
        "tag 700 of the first directory",
        "tag 52545 of any directory",
        lambda head: head.startswith(tiff.SIGNATURES),
        tiff.walk,
    ),
    Format(
        "AVIF, HEIC, MP4, MOV, M4A",
        ("image/avif", "image/heic", "video/mp4", "video/quicktime", "video/x-m4v", "audio/mp4"),
        "`uuid` box of XMP, the last one before `mfra`",
        "`uuid` box of C2PA",
        bmff.is_bmff,
        bmff.walk,
    ),
    Format(
        "WebM, Matroska",
        ("video/webm", "video/x-matroska"),
        "tag `XMP` in `Tags`, the last element",
        "",
        lambda head: head.startswith(matroska.SIGNATURE),
        matroska.walk,
        last=True,
    ),
    Format(
        "MP3",
        ("audio/mpeg",),
        "ID3v2 frame `PRIV` of the owner `XMP`",
        "`GEOB`",
        lambda head: head.startswith(id3.SIGNATURE) or id3.is_mp3(head),
        id3.walk,
    ),
    Format(
        "WAV",
        ("audio/wav",),
        "chunk `_PMX` before the samples",
        "`C2PA`",
        lambda head: head.startswith(riff.SIGNATURE) and head[8:12] == b"WAVE",
        riff.walk,
    ),
    Format(
        "FLAC",
        ("audio/flac",),
        "Vorbis comment `XMP`",
        "`GEOB` of an ID3v2 tag before it",
        lambda head: head.startswith(vorbis.FLAC),
        vorbis.walk_flac,
    ),
    Format(
        "Ogg (Vorbis, Opus)",
        ("audio/ogg",),
        "Vorbis comment `XMP`, where all comments are in one page",
        "a stream of its own",
        lambda head: head.startswith(vorbis.OGG),
        vorbis.walk_ogg,
    ),
)
WITHOUT_PLACE: Final = {
    "text, JSON, SVG as text": "there is no place that readers know",
    "AAC (ADTS), AMR": "a bare stream of frames, without metadata",
    "AVI": "no place for XMP that players skip with certainty",
    "BMP, ICO": "no place for metadata",
    "JPEG XL, JPEG 2000, PSD": "not written by the models that Fleek knows; left alone",
    "AIFF, MIDI": "left alone",
}
"""What is stored as it comes, and why."""


def format_of(head: bytes) -> Format | None:
    """The format of a file that begins with these HEAD_BYTES; None: it has no place for a mark."""
    return next((one for one in FORMATS if one.recognises(head)), None)
