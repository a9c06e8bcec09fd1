"""Parses an answer of hundreds of megabytes with a few hundred kilobytes of memory.

Pictures are base64 strings inside JSON. A first pass skips them and records the position of each; a second pass decodes
one picture as a stream.
"""

import base64
import binascii
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from app.media_generator.adapter_kit.lenient_json import UNREADABLE, members

MAX_TEXT_BYTES: Final = 1024 * 1024
"""Largest size of an answer without its pictures."""
_PICTURE: Final = re.compile(rb'"b64_json"\s*:\s*"$')
_ENDS: Final = re.compile(rb'["\\]')
_ESCAPE: Final = re.compile(rb"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_LONGEST_ESCAPE: Final = len(rb"\u002f")
_PREFIX_BYTES: Final = 128
"""Bytes at the start that show whether it is a data URI."""
_BLANK: Final = b"\r\n\t "


class UnreadableAnswerError(ValueError):
    """It is not a valid answer of the API."""


@dataclass(frozen=True, slots=True)
class Span:
    """Position of a picture's base64 in an answer, in bytes."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer without its pictures."""

    pictures: tuple[Span | str, ...]
    """Each in the answer itself, or at a URL."""
    usage: Mapping[str, Any]
    error: Any
    """The error that some servers return in place of pictures, with a successful status."""


class _Item(msgspec.Struct):
    b64_json: str | None = None
    url: str | None = None


class _Body(msgspec.Struct):
    data: list[_Item] | None = None
    usage: Any = None
    error: Any = None


async def read(chunks: AsyncIterator[bytes]) -> Answer:
    """Parse an answer.

    Raises:
        UnreadableAnswerError: It is not an answer of this API.
    """
    outline = _Outline()
    async for chunk in chunks:
        outline.feed(chunk)
    try:
        body = msgspec.json.decode(outline.text, type=_Body)
    except UNREADABLE as error:
        raise UnreadableAnswerError(str(error)) from error
    found = (_where(item) for item in body.data or ())
    return Answer(tuple(place for place in found if place is not None), members(body.usage), body.error)


def _where(item: _Item) -> Span | str | None:
    if item.b64_json:
        start, _, end = item.b64_json.partition("-")
        if start != end:
            return Span(int(start), int(end))
    return item.url or None


class _Outline:
    """Incremental copy of the JSON in which each picture is replaced by its start and end position."""

    def __init__(self) -> None:
        self.text = bytearray()
        self._passed = 0
        self._in_string = False
        self._escaped = False
        self._picture: int | None = None

    def feed(self, chunk: bytes) -> None:
        """Process the next chunk.

        Raises:
            UnreadableAnswerError: There is too much text besides the pictures.
        """
        at = 0
        while at < len(chunk):
            at = self._string(chunk, at) if self._in_string else self._between(chunk, at)
        self._passed += len(chunk)
        if len(self.text) > MAX_TEXT_BYTES:
            raise UnreadableAnswerError(f"it has more than {MAX_TEXT_BYTES} bytes besides its pictures")

    def _between(self, chunk: bytes, at: int) -> int:
        """Process text outside strings, up to the next one."""
        quote = chunk.find(b'"', at)
        end = len(chunk) if quote < 0 else quote + 1
        self.text += chunk[at:end]
        if quote >= 0:
            self._in_string = True
            if _PICTURE.search(self.text, max(0, len(self.text) - 64)):
                self._picture = self._passed + end
        return end

    def _string(self, chunk: bytes, at: int) -> int:
        """Process a string, up to its end, its next backslash or the chunk's end."""
        if self._escaped:
            self._escaped, end = False, at + 1
        elif (found := _ENDS.search(chunk, at)) is None:
            end = len(chunk)
        else:
            end = found.end()
            self._escaped = found[0] == b"\\"
            self._in_string = self._escaped
        if self._picture is None:
            self.text += chunk[at:end]
        elif not self._in_string:
            self.text += b'%d-%d"' % (self._picture, self._passed + end - 1)
            self._picture = None
        return end


async def decode(chunks: AsyncGenerator[bytes], span: Span) -> AsyncGenerator[bytes]:
    """The bytes of one picture.

    Args:
        chunks: The answer from its start; closed at the end.
        span: Position of the picture.

    Raises:
        UnreadableAnswerError: It is not base64.
    """
    decoder, passed = _Decoder(), 0
    async with aclosing(chunks):
        async for chunk in chunks:
            piece = chunk[max(0, span.start - passed) : max(0, span.end - passed)]
            passed += len(chunk)
            if decoded := decoder.feed(piece, last=passed >= span.end):
                yield decoded
            if passed >= span.end:
                return
    raise UnreadableAnswerError("it ends in the middle of a picture")


class _Decoder:
    """Decodes base64 from a JSON string; some servers escape its slashes, some prefix it as a data URI."""

    def __init__(self) -> None:
        self._text = b""
        self._started = False
        self._digits = b""

    def feed(self, piece: bytes, *, last: bool) -> bytes:
        self._text += piece
        if not self._started and len(self._text) < _PREFIX_BYTES and not last:
            return b""
        text = self._unescaped(last=last)
        if not self._started:
            self._started = True
            if text.startswith(b"data:"):
                text = text.partition(b",")[2]
        digits = self._digits + text.translate(None, _BLANK)
        whole = len(digits) if last else len(digits) // 4 * 4
        self._digits = digits[whole:]
        missing = b"=" * (-whole % 4)
        try:
            return base64.b64decode(digits[:whole] + missing, validate=True)
        except binascii.Error as error:
            raise UnreadableAnswerError(f"a picture is not base64: {error}") from error

    def _unescaped(self, *, last: bool) -> bytes:
        """The buffered text without escapes; one that may be incomplete stays in the buffer."""
        text, self._text = self._text, b""
        if b"\\" not in text:
            return text
        cut = text.rfind(b"\\")
        if not last and len(text) - cut < _LONGEST_ESCAPE:
            # Of two backslashes in a row the second is part of the first's escape; base64 has no such pair.
            text, self._text = text[:cut], text[cut:]
        return _ESCAPE.sub(_character, text)


def _character(escape: re.Match[bytes]) -> bytes:
    name = escape[1]
    if name.startswith(b"u"):
        return chr(int(name[1:], 16)).encode()
    return b"" if name in {b"n", b"r", b"t"} else name
