"""Parses an answer of hundreds of megabytes with a few hundred kilobytes of memory.

Pictures are base64 strings inside JSON, under one key or another. A first pass cuts out every long string and records
its position; a second pass decodes one of them as a stream. Short strings stay in the JSON.
"""

import base64
import binascii
import codecs
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from secrets import token_hex
from typing import Any, Final

from app.media_generator.adapter_kit.file_places import (
    ADDRESSES,
    BASE64_FILE,
    INLINE,
    find_with,
    is_base64,
    is_data_uri,
    place_in,
)
from app.media_generator.adapter_kit.lenient_json import encoding_of, error_text, members, parse
from app.media_generator.errors import OutputError, UnreadableAnswerError

MAX_TEXT_BYTES: Final = 16 * 1024 * 1024
"""Largest size of an answer without its long strings."""
LONG_BYTES: Final = 16 * 1024
"""A longer string is cut out: no URL is as long."""
HEAD_BYTES: Final = 1024
"""Bytes of a long string that show what it is; the parameters of a data URI are shorter."""
_NO_PICTURES: Final = frozenset({"error", "errors", "usage", "input", "prompt", "request", "metadata"})
"""Members of an answer in which there is no result."""
LONGEST_ADDRESS: Final = 256 * 1024
"""Bytes; a longer one is no address."""
_HTTP: Final = re.compile(rb"\s*https?:(?:\\?/){2}", re.IGNORECASE)
_LOOSE: Final = re.compile(rb'(?:"([^"\\]{1,64})"\s*+:\s*+)?"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
"""A string, and the name of the member that it is in."""
_TOO_MANY: Final = 200_000
"""Strings in an answer; more would take seconds to read, and are no pictures."""
_ENDS: Final = re.compile(rb'["\\]')
_ESCAPE: Final = re.compile(rb"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_CUT_ESCAPE: Final = re.compile(rb"(?<!\\)\\(?:u[0-9a-fA-F]{0,3})?$")
_LONGEST_ESCAPE: Final = len(rb"\u002f")
_DATA: Final = re.compile(rb"\s*data:([^,]*),", re.IGNORECASE)
_STRAY_PERCENT: Final = re.compile(rb"%[0-9a-fA-F]?$")
_PERCENT: Final = re.compile(rb"%([0-9a-fA-F]{2})")
_BLANK: Final = b"\r\n\t \x00"
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")


@dataclass(frozen=True, slots=True)
class Span:
    """Position of a long string in an answer, in bytes of its text as UTF-8."""

    start: int
    end: int
    head: bytes = b""
    """Its first bytes, without escapes."""
    whole: str | None = None
    """The string, if it is an address."""

    @property
    def is_address(self) -> bool:
        """Whether it begins as an address, which is no base64."""
        return _HTTP.match(self.head) is not None

    @property
    def is_file(self) -> bool:
        """Whether it begins as a file does."""
        head = self.head.decode(errors="replace").lstrip()
        return _DATA.match(self.head) is not None or BASE64_FILE.match(head) is not None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer without its pictures."""

    pictures: tuple[Span | str, ...]
    """Each in the answer itself, at a URL, or as a data URI."""
    usage: Mapping[str, Any]
    error: Any
    """The error that some servers return in place of pictures, with a successful status."""


async def read(chunks: AsyncIterator[bytes], base: str) -> Answer:
    """Parse an answer.

    Args:
        chunks: The answer.
        base: The URL that it came from; relative addresses belong to it.

    Raises:
        UnreadableAnswerError: It is not JSON.
    """
    outline = _Outline()
    async for chunk in _as_utf8(chunks):
        outline.feed(chunk)
    outline.close()
    try:
        body = parse(outline.text)
    except UnreadableAnswerError:
        if not (pictures := outline.loose(base)):
            raise
        return Answer(tuple(pictures), {}, None)
    fields = members(body)
    reader: Callable[[str, str], Span | str | None] = partial(outline.place_in, base=base)
    # Some servers repeat `data` under another name.
    found: list[Span | str] = find_with(fields.get("data"), reader)
    pictures = found
    if not pictures:
        rest = {name: value for name, value in fields.items() if name not in _NO_PICTURES} if fields else body
        pictures = find_with(rest, reader)
    error = fields.get("error") or fields.get("errors") or fields.get("detail") or fields.get("message")
    return Answer(tuple(pictures), members(fields.get("usage")), error if error_text(error) else None)


async def _as_utf8(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The text as UTF-8; almost every answer is."""
    decoder: codecs.IncrementalDecoder | None = None
    is_first = True
    async for chunk in chunks:
        if is_first and chunk and (name := encoding_of(chunk)) != "utf-8":
            decoder = codecs.getincrementaldecoder(name)(errors="replace")
        is_first = is_first and not chunk
        yield chunk if decoder is None else decoder.decode(chunk).encode(errors="replace")


class _Outline:
    """Incremental copy of the JSON in which each long string is replaced by a name of its own."""

    def __init__(self) -> None:
        self.text = bytearray()
        self._spans = list[Span]()
        self._name = token_hex(16)
        """The beginning of every such name; no answer can contain it."""
        self._passed = self._strings = 0
        self._in_string = False
        self._escaped = False
        self._start = 0
        """Of the string, in the answer."""
        self._kept = 0
        """Of the string, in the text."""
        self._head: bytes | None = None
        """Of a string that is cut out; None: it is short so far."""
        self._address = bytearray()
        """The string that is cut out, if it is an address."""

    def place_in(self, text: str, name: str, *, base: str) -> Span | str | None:
        """The picture that a string of the text is, which is in a member of this name; None: it is none."""
        if not text.startswith(self._name):
            return place_in(text, name, base=base)
        span = self._spans[int(text.removeprefix(self._name))]
        if span.is_address:
            return None if span.whole is None else place_in(span.whole, name, base=base)
        return span if name or span.is_file else None

    def close(self) -> None:
        """The answer ends: a long string in which it is cut off is an output, too, which ends there."""
        if self._in_string and self._head is not None:
            self._cut_out(self._passed)
            self._in_string = False

    def loose(self, base: str) -> list[Span | str]:
        """The pictures in a text that is no JSON: lines of events, a prefix, or one that is cut off."""
        found = list[Span | str]()
        for one in _LOOSE.finditer(self.text):
            name, text = (part or b"" for part in one.groups())
            member = name.decode(errors="replace")
            if member in _NO_PICTURES:
                continue
            decoded = _ESCAPE.sub(_character, text).decode(errors="replace")
            place = self.place_in(decoded, member if member in (*INLINE, *ADDRESSES) else "", base=base)
            # A word that looks like a path proves nothing here.
            if place is not None and (isinstance(place, Span) or "://" in decoded or is_data_uri(place)):
                found.append(place)
        return list(dict.fromkeys(found))

    def feed(self, chunk: bytes) -> None:
        """Process the next chunk.

        Raises:
            UnreadableAnswerError: There is too much text besides long strings.
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
        self._strings += quote >= 0
        if self._strings > _TOO_MANY:
            raise UnreadableAnswerError(f"it has more than {_TOO_MANY} strings")
        end = len(chunk) if quote < 0 else quote + 1
        self.text += chunk[at:end]
        if quote >= 0:
            self._in_string, self._start, self._kept = True, self._passed + end, len(self.text)
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
        if self._head is None:
            self.text += chunk[at:end]
            if len(self.text) - self._kept > LONG_BYTES:
                self._head = bytes(self.text[self._kept : self._kept + HEAD_BYTES])
                self._address = self.text[self._kept :] if _HTTP.match(self._head) else bytearray()
                del self.text[self._kept :]
        elif _HTTP.match(self._head):
            self._address += chunk[at : min(end, at + LONGEST_ADDRESS - len(self._address))]
        if not self._in_string and self._head is not None:
            self._cut_out(self._passed + end - 1)
        return end

    def _cut_out(self, end: int) -> None:
        """Put a name in the place of the string that ends here."""
        head = _ESCAPE.sub(_character, self._head or b"")
        address = self._address.removesuffix(b'"')
        whole = None
        if address and len(address) < LONGEST_ADDRESS:
            whole = _ESCAPE.sub(_character, bytes(address)).decode(errors="replace")
        self.text += b'%b%d"' % (self._name.encode(), len(self._spans))
        self._spans.append(Span(self._start, end, head, whole))
        self._head, self._address = None, bytearray()


async def decode(chunks: AsyncGenerator[bytes], span: Span) -> AsyncGenerator[bytes]:
    """The bytes of one picture.

    Args:
        chunks: The answer from its start; closed at the end.
        span: Position of the picture.

    Raises:
        OutputError: It is not base64.
    """
    decoder, passed = _Decoder(), 0
    async with aclosing(chunks), aclosing(_as_utf8(chunks)) as text:
        async for chunk in text:
            piece = chunk[max(0, span.start - passed) : max(0, span.end - passed)]
            passed += len(chunk)
            if decoded := decoder.feed(piece, last=passed >= span.end):
                yield decoded
            if passed >= span.end:
                return
    raise OutputError("the answer ends in the middle of a picture")


class _Decoder:
    """Decodes a JSON string: base64 in any notation, or a data URI."""

    def __init__(self) -> None:
        self._text = b""
        self._started = False
        self._is_base64 = True
        self._digits = b""

    def feed(self, piece: bytes, *, last: bool) -> bytes:
        self._text += piece
        if not self._started and len(self._text) < HEAD_BYTES and not last:
            return b""
        text = self._unescaped(last=last)
        if not self._started:
            self._started = True
            if (head := _DATA.match(text)) is not None:
                text = text[head.end() :]
                self._is_base64 = is_base64(head[1].decode(errors="replace")) or _starts_as_base64(text)
        return self._decoded(text, last=last) if self._is_base64 else self._percent_decoded(text, last=last)

    def _decoded(self, text: bytes, *, last: bool) -> bytes:
        digits = self._digits + text.translate(_URL_SAFE, _BLANK)
        if last and len(digits.rstrip(b"=")) % 4 == 1:
            # It is cut off: one digit alone is no byte.
            digits = digits.rstrip(b"=")[:-1]
        whole = len(digits) if last else len(digits) // 4 * 4
        self._digits = digits[whole:]
        missing = b"=" * (-whole % 4)
        try:
            return base64.b64decode(digits[:whole] + missing, validate=True)
        except binascii.Error as error:
            raise OutputError(f"a picture is not base64: {error}") from error

    def _percent_decoded(self, text: bytes, *, last: bool) -> bytes:
        text = self._digits + text
        cut = None if last else _STRAY_PERCENT.search(text)
        text, self._digits = (text, b"") if cut is None else (text[: cut.start()], text[cut.start() :])
        return _PERCENT.sub(lambda found: bytes.fromhex(found[1].decode()), text)

    def _unescaped(self, *, last: bool) -> bytes:
        """The buffered text without escapes; one that may be incomplete stays in the buffer."""
        text, self._text = self._text, b""
        text = _CUT_ESCAPE.sub(b"", text) if last else text
        if b"\\" not in text:
            return text
        cut = text.rfind(b"\\")
        if not last and len(text) - cut < _LONGEST_ESCAPE:
            # Of two backslashes in a row the second is part of the first's escape; base64 has no such pair.
            text, self._text = text[:cut], text[cut:]
        return _ESCAPE.sub(_character, text)


def _starts_as_base64(text: bytes) -> bool:
    return BASE64_FILE.match(text[:HEAD_BYTES].decode(errors="replace").lstrip()) is not None


def _character(escape: re.Match[bytes]) -> bytes:
    name = escape[1]
    if name.startswith(b"u") and len(name) > 1:
        return chr(int(name[1:], 16)).encode(errors="replace")
    known = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}
    # One that JSON does not know is no part of a picture.
    return known.get(name, name if name in b'"\\/' else b"")
