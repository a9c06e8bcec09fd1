"""What bytes are: type and size are read from the bytes themselves, never from a header or a name."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import filetype  # pyright: ignore[reportMissingTypeStubs] - it has none
import imagesize  # pyright: ignore[reportMissingTypeStubs] - likewise

HEAD_BYTES: Final = 64 * 1024
"""So much of the beginning tells what it is."""
TAIL_BYTES: Final = 12
"""So much of the end tells whether all of it came."""

JSON: Final = "application/json"
TEXT: Final = "text/plain"
SVG: Final = "image/svg+xml"
"""Never given out as such: a browser that opens one runs the scripts in it. It counts as text."""
_PROPER: Final = {"audio/x-wav": "audio/wav", "audio/x-flac": "audio/flac"}
ENDS: Final = {"image/png": b"IEND\xaeB`\x82", "image/jpeg": b"\xff\xd9", "image/gif": b";"}
"""How the last bytes of a format read."""
_ISO: Final = frozenset({"video/mp4", "video/quicktime", "video/x-m4v", "audio/mp4", "image/heic", "image/avif"})
_MATROSKA: Final = frozenset({"video/webm", "video/x-matroska"})
_EBML: Final = b"\x1a\x45\xdf\xa3"
_SEGMENT: Final = b"\x18\x53\x80\x67"
_BOX: Final = 8
"""Bytes of the head of a box: its length and its name."""
_LARGE_BOX: Final = 16
_UNTOLD: Final = frozenset({0, 0x7FFF_FFFF, 0xFFFF_FFFF})
"""Lengths that are written by those who do not know them yet."""


class NotMediaError(Exception):
    """The bytes are nothing that we take."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is."""

    media_type: str
    extension: str
    """Without the dot."""
    width: int | None = None
    """In pixels; None: not a picture."""
    height: int | None = None

    @property
    def is_text(self) -> bool:
        """Whether it is made of characters."""
        return self.media_type in {TEXT, JSON}

    @property
    def content_type(self) -> str:
        """As a header says it."""
        return f"{self.media_type}; charset=utf-8" if self.media_type == TEXT else self.media_type


def inspect(head: bytes, texts: Collection[str] = ()) -> Kind:
    """Tell what a file is from its first HEAD_BYTES.

    Args:
        head: Its beginning; all of it, if it is shorter.
        texts: Media types that are expected; text is taken only where one of them is text.

    Raises:
        NotMediaError: It is nothing that we take, or a picture without a readable size.
    """
    guess: Any = filetype.guess(head)  # pyright: ignore[reportUnknownMemberType] - untyped
    if guess is None and (text := _text(head, texts)) is not None:
        return text
    if guess is None or guess.mime.partition("/")[0] not in {"image", "video", "audio"}:
        begin = f"they begin with {head[:8]!r}" if head else "there are none"
        raise NotMediaError(f"the bytes are no picture, video or sound: {begin}")
    if not guess.mime.startswith("image/"):
        media_type: str = guess.mime
        return Kind(_PROPER.get(media_type, media_type), guess.extension)
    size: tuple[int, int] = imagesize.get(BytesIO(head))  # pyright: ignore[reportUnknownMemberType] - untyped
    if min(size) < 1:
        raise NotMediaError(f"the {guess.mime} has no readable size")
    return Kind(guess.mime, guess.extension, *size)


def _text(head: bytes, texts: Collection[str]) -> Kind | None:
    plain = any(kind.startswith("text/") or kind == SVG for kind in texts)
    if not head or not (plain or JSON in texts):
        return None
    try:
        # Only a character that the end cuts in two may be incomplete.
        text = head.decode() if len(head) < HEAD_BYTES else head[:-3].decode(errors="strict")
    except UnicodeDecodeError as error:
        if len(head) < HEAD_BYTES or error.start < len(head) - 6:
            return None
        text = head[: error.start].decode()
    if any(ord(letter) < ord(" ") and letter not in "\t\n\r\f" for letter in text):
        return None
    if JSON in texts and _is_json(text, whole=len(head) < HEAD_BYTES):
        return Kind(JSON, "json")
    return Kind(TEXT, "txt") if plain else None


def _is_json(text: str, *, whole: bool) -> bool:
    if not whole:
        return text.lstrip()[:1] in {"{", "["}
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def is_whole(kind: Kind, head: bytes, tail: bytes, size: int) -> bool:
    """Whether a file ends where its format says it does; True where the format does not say.

    Args:
        kind: As inspected.
        head: Its beginning.
        tail: Its last TAIL_BYTES.
        size: Its length in bytes.
    """
    if kind.media_type == "image/webp":
        return size >= int.from_bytes(head[4:8], "little") + 8
    if kind.media_type == "audio/wav":
        told = int.from_bytes(head[4:8], "little")
        return told in _UNTOLD or size >= told + 8
    if kind.media_type in _ISO:
        return _boxes_fit(head, size)
    if kind.media_type in _MATROSKA:
        return _segment_fits(head, size)
    if kind.media_type == JSON and size >= HEAD_BYTES:
        return tail.rstrip().endswith((b"}", b"]"))
    return tail.rstrip(b"\x00").endswith(ENDS.get(kind.media_type, b""))


def _boxes_fit(head: bytes, size: int) -> bool:
    """Whether every box whose head can be seen ends within the file, and the one that describes all is there.

    Source: ISO/IEC 14496-12, section 4.2.
    """
    place, described = 0, False
    while place + _BOX <= min(len(head), size):
        length, name = int.from_bytes(head[place : place + 4]), head[place + 4 : place + _BOX]
        if length == 1:
            length = int.from_bytes(head[place + _BOX : place + _LARGE_BOX])
        described = described or name in {b"moov", b"meta"}
        if length == 0:
            return True  # to the end, wherever that is
        if length < _BOX:
            return False
        place += length
    return place < size or (place == size and described)


def _segment_fits(head: bytes, size: int) -> bool:
    """Whether the segment that all is in ends within the file.

    Source: RFC 8794, section 4; RFC 9559, section 5.
    """
    place = 0
    for name in (_EBML, _SEGMENT):
        if head[place : place + 4] != name:
            return True  # something unusual stands before it
        length, width = _vint(head[place + 4 : place + 12])
        if length is None:
            return True
        place += 4 + width + length
    return size >= place


def _vint(data: bytes) -> tuple[int | None, int]:
    """A length and how many bytes it takes; None: it was not known when it was written."""
    width = 9 - data[0].bit_length() if data and data[0] else 0
    if not width or len(data) < width:
        return None, width
    ones = (1 << (7 * width)) - 1
    length = int.from_bytes(data[:width]) & ones
    return (None if length == ones else length), width
