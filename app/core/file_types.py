"""Recognises files: type and size are read from the bytes themselves, never from a header or a name."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import filetype  # pyright: ignore[reportMissingTypeStubs] - it has none
import imagesize  # pyright: ignore[reportMissingTypeStubs] - likewise

HEAD_BYTES: Final = 64 * 1024
"""The part at the beginning that is enough to recognise a file."""
_TAIL_BYTES: Final = 12
"""The part at the end that is enough to recognise a complete file."""

JSON: Final = "application/json"
TEXT: Final = "text/plain"
UNKNOWN: Final = "application/octet-stream"
SVG: Final = "image/svg+xml"
"""Never served as such: a browser that opens one runs the scripts in it. It counts as text."""
_PROPER: Final = {"audio/x-wav": "audio/wav", "audio/x-flac": "audio/flac"}
_MARKS: Final = {"image/png": b"IEND\xaeB`\x82", "image/jpeg": b"\xff\xd9"}
"""The bytes that end a format. More may follow: cameras and some programs append data."""
_MARKER: Final = b"\xff"
_START_OF_SCAN: Final = b"\xda"
_ISO: Final = frozenset({"video/mp4", "video/quicktime", "video/x-m4v", "audio/mp4", "image/heic", "image/avif"})
_MATROSKA: Final = frozenset({"video/webm", "video/x-matroska"})
_EBML: Final = b"\x1a\x45\xdf\xa3"
_SEGMENT: Final = b"\x18\x53\x80\x67"
_BOX: Final = 8
"""Bytes of a box header: length and name."""
_LARGE_BOX: Final = 16
_UNKNOWN_LENGTHS: Final = frozenset({0, 0x7FFF_FFFF, 0xFFFF_FFFF})
"""Placeholders that encoders write when they do not know the length yet."""


class NotMediaError(Exception):
    """The bytes are of no accepted type."""


@dataclass(frozen=True, slots=True)
class Kind:
    """The type of a file."""

    media_type: str
    extension: str
    """Without the dot."""
    width: int | None = None
    """In pixels; None: not a picture."""
    height: int | None = None

    @property
    def is_text(self) -> bool:
        """Whether it consists of characters."""
        return self.media_type in {TEXT, JSON}

    @property
    def content_type(self) -> str:
        """As a Content-Type header."""
        return f"{self.media_type}; charset=utf-8" if self.media_type == TEXT else self.media_type


def inspect(head: bytes, texts: Collection[str] = ()) -> Kind:
    """Recognise a file by its first HEAD_BYTES.

    Args:
        head: Its beginning; all of it if it is shorter.
        texts: Expected media types; text is accepted only if one of them is text.

    Raises:
        NotMediaError: It is of no accepted type, or a picture without a readable size.
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


def describe(head: bytes, texts: Collection[str] = ()) -> Kind:
    """What a file is, by its first HEAD_BYTES; never an error: what is unknown is `application/octet-stream`."""
    try:
        return inspect(head, texts)
    except NotMediaError:
        return _text(head, (TEXT, JSON)) or Kind(UNKNOWN, "bin")


def _text(head: bytes, texts: Collection[str]) -> Kind | None:
    plain = any(kind.startswith("text/") or kind == SVG for kind in texts)
    if not head or not (plain or JSON in texts):
        return None
    try:
        # Only a character cut in two at the end may be incomplete.
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


class EndDetector:
    """Detects, from the chunks of a file, whether the end that its format defines has been reached."""

    def __init__(self, kind: Kind, head: bytes) -> None:
        """See `EndDetector`.

        Args:
            kind: As inspected.
            head: The file's beginning, HEAD_BYTES or more unless it is shorter.
        """
        self._kind = kind
        self._head = head[:HEAD_BYTES]
        self._mark = _MARKS.get(kind.media_type)
        self._not_before = _scan_of(self._head) if kind.media_type == "image/jpeg" else 0
        self._marked = False
        self._tail = b""
        self.size = 0
        """Bytes fed so far."""

    def feed(self, chunk: bytes) -> None:
        """Process the next chunk."""
        if self._mark is not None and not self._marked:
            # A chunk may end within the mark.
            begin = self.size - len(self._tail)
            self._marked = (self._tail + chunk).find(self._mark, max(self._not_before - begin, 0)) >= 0
        self.size += len(chunk)
        self._tail = chunk[-_TAIL_BYTES:] if len(chunk) >= _TAIL_BYTES else (self._tail + chunk)[-_TAIL_BYTES:]

    @property
    def is_complete(self) -> bool:
        """Whether the whole file has been fed; True if the format does not define its end."""
        head, size, media_type = self._head, self.size, self._kind.media_type
        if self._mark is not None:
            return self._marked
        if media_type in {"image/webp", "audio/wav"}:
            declared = int.from_bytes(head[4:8], "little")
            return (media_type == "audio/wav" and declared in _UNKNOWN_LENGTHS) or size >= declared + 8
        if media_type in _ISO:
            return _boxes_fit(head, size)
        if media_type in _MATROSKA:
            return _segment_fits(head, size)
        if media_type == JSON and size >= HEAD_BYTES:
            return self._tail.rstrip().endswith((b"}", b"]"))
        return media_type != "image/gif" or self._tail.rstrip(b"\x00").endswith(b";")


def _scan_of(head: bytes) -> int:
    """Where a JPEG's image data begins, or an offset before it: a preview in its header segments has its own end mark.

    Source: ITU-T T.81, section B.1.1.
    """
    place = 2
    while head[place : place + 1] == _MARKER and (name := head[place + 1 : place + 2]) != _START_OF_SCAN:
        # A marker may be preceded by any number of fill bytes.
        place += 1 if name == _MARKER else 2 + int.from_bytes(head[place + 2 : place + 4])
    return place


def _boxes_fit(head: bytes, size: int) -> bool:
    """Whether every box whose header is visible ends within the file, and the box with the metadata is among them.

    Source: ISO/IEC 14496-12, section 4.2.
    """
    place, described = 0, False
    while place + _BOX <= min(len(head), size):
        length, name = int.from_bytes(head[place : place + 4]), head[place + 4 : place + _BOX]
        if length == 1:
            length = int.from_bytes(head[place + _BOX : place + _LARGE_BOX])
        described = described or name in {b"moov", b"meta"}
        if length == 0:
            return True  # it extends to the end of the file
        if length < _BOX:
            return False
        place += length
    return place < size or (place == size and described)


def _segment_fits(head: bytes, size: int) -> bool:
    """Whether the segment, which contains everything else, ends within the file.

    Source: RFC 8794, section 4; RFC 9559, section 5.
    """
    place = 0
    for name in (_EBML, _SEGMENT):
        if head[place : place + 4] != name:
            return True  # an unusual element precedes it
        length, width = _vint(head[place + 4 : place + 12])
        if length is None:
            return True
        place += 4 + width + length
    return size >= place


def _vint(data: bytes) -> tuple[int | None, int]:
    """A length and the number of bytes that encode it; None: it was unknown when it was written."""
    width = 9 - data[0].bit_length() if data and data[0] else 0
    if not width or len(data) < width:
        return None, width
    ones = (1 << (7 * width)) - 1
    length = int.from_bytes(data[:width]) & ones
    return (None if length == ones else length), width
