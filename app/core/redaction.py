"""Masks configured secrets in text that comes from outside, before it is stored, logged or shown.

A provider that refuses a request may repeat our headers in its error message. So everything that somebody else wrote
passes `redacted`: error messages of providers, answers of webhook receivers, exceptions, log lines. What it knows is
learned where settings and accounts are read.

What is masked, as `***`:

- a known secret, and any part of it with at least 8 characters; a part that could be a word (letters of one case, or
  only digits) with at least 12, so that ordinary text stays as it is;
- the same in base64 at any alignment, as in `Authorization: Basic`, and in hexadecimal from 8 bytes on;
- each of these percent-encoded, or escaped as in JSON or HTML, up to twice;
- what is left of a secret that somebody else has masked, such as `r8_abc***`, where six characters of its start or its
  end are shown, or three of both;
- whatever a URL says before its host, signatures of S3 in URLs, and the secret part of callback URLs.

A value with fewer than 8 characters, and the well-known passwords in COMMON, are not taken for secrets: they would be
found in ordinary words.
"""

import asyncio
import re
import threading
import zlib
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

MASK: Final = "***"
SHORTEST: Final = 8
"""Characters of a secret, and of a part of one."""
SHORTEST_WORD: Final = 12
"""Characters of a part that could be a word or a number."""
COMMON: Final = frozenset({"fleek-secret", "minioadmin", "postgres", "password", "changeme", "rabbitmq", "localhost"})
_HEX_DIGITS: Final = 16
_SEED: Final = 4
"""Of any 7 characters in a row, 4 begin at a multiple of 4: only those are looked up in ordinary text."""
_SHOWN_AT_ONE_END: Final = 6
_SHOWN_AT_BOTH_ENDS: Final = 3
_MAX_ESCAPING: Final = 2
_ESCAPES: Final = re.compile(
    r"""%([0-9A-Fa-f]{2})|\\u([0-9A-Fa-f]{4})|\\x([0-9A-Fa-f]{2})|&\#x([0-9A-Fa-f]{1,4});|&\#([0-9]{1,5});"""
    r"""|\\(["'/\\])|&(amp|lt|gt|quot|apos);"""
)
_NAMED: Final = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_MASKED_MIDDLE: Final = re.compile(r"\*{2,}|\u2022{2,}|\.{3,}|\u2026")
_RUN: Final = re.compile(r"[\w.+/=:-]*")
_IN_URLS: Final = (
    re.compile(r"(?i)x-amz-(?:signature|credential|security-token)(?:=|%3D)([^&\s\"'<>\\]+)"),
    re.compile(r"://([^/\s:@\"']*:[^/\s@\"']+)(?=@)"),
    re.compile(r"/media/callbacks/[\w-]+/[0-9a-f-]{36}/([\w-]{16,})"),
)
"""What is masked in URLs, as the only group."""


class Redactor:
    """Knows some secrets; may be used from any thread."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = frozenset[str]()
        self._seeds = frozenset[str]()
        self._parts = dict[int, set[str]]()
        self._lock = threading.Lock()
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Know these, too; values that are too short or too common are ignored."""
        new = {value for value in secrets if len(value) >= SHORTEST and value.lower() not in COMMON} - self._secrets
        if not new:
            return
        with self._lock:
            parts = {size: set(known) for size, known in self._parts.items()}
            for part in (part for secret in new for part in _parts_of(secret)):
                parts.setdefault(len(part), set()).add(part)
            self._seeds |= {part[at : at + _SEED] for known in parts.values() for part in known for at in _starts(part)}
            self._parts = parts
            self._secrets |= new

    def text(self, text: str) -> str:
        """The text with secrets masked."""
        if spans := self._spans(text):
            text = _masked(text, spans)
        if not self._secrets:
            return text
        if "**" in text or "..." in text or "\u2026" in text or "\u2022" in text:
            text = self._without_ends(text)
        return text

    def _spans(self, text: str, escaping: int = 0) -> list[tuple[int, int]]:
        """Where parts of secrets are, and what is secret in any URL."""
        seeds = self._seeds
        starts = range(0, len(text) - _SEED + 1, _SEED) if seeds else range(0)
        hits = [at for at in starts if text[at : at + _SEED] in seeds]
        found = [span for at in hits for span in self._around(text, at)]
        if "://" in text or "/callbacks/" in text or "x-amz-" in text.lower():
            found += [match.span(1) for pattern in _IN_URLS for match in pattern.finditer(text)]
        if escaping < _MAX_ESCAPING and ("%" in text or "\\" in text or "&" in text):
            plain = _ESCAPES.sub(_unescaped, text)
            if plain != text and (inner := self._spans(plain, escaping + 1)):
                places = _places(text)
                found += [(places[start], places[end]) for start, end in inner]
        return found

    def _around(self, text: str, at: int) -> Iterator[tuple[int, int]]:
        for size, parts in self._parts.items():
            for start in range(max(at + _SEED - size, 0), at + 1):
                if text[start : start + size] in parts:
                    yield start, start + size

    def _without_ends(self, text: str) -> str:
        """The text with nothing of a secret whose middle somebody else has masked; in time that grows with its length.

        Only what lies within the length of a secret beside such a middle is looked at.
        """
        reach, pieces, until = max(map(len, self._secrets)), list[str](), 0
        for middle in _MASKED_MIDDLE.finditer(text):
            if middle.start() < until:
                continue
            before = text[max(until, middle.start() - reach) : middle.start()]
            run = _RUN.match(text, middle.end(), middle.end() + reach)
            after = "" if run is None else run[0]
            if (shown := self._shown_ends(before, after)) is not None:
                head, tail = shown
                pieces += [text[until : middle.start() - head], MASK]
                until = middle.end() + tail
        return "".join([*pieces, text[until:]])

    def _shown_ends(self, before: str, after: str) -> tuple[int, int] | None:
        """How much of the start and of the end of a secret stands there; None: of none so much that it matters."""
        for secret in self._secrets:
            if secret[:_SHOWN_AT_BOTH_ENDS] not in before and secret[-_SHOWN_AT_BOTH_ENDS:] not in after:
                continue
            head, tail = _common_start(before, secret), _common_end(after, secret)
            if max(head, tail) >= _SHOWN_AT_ONE_END or min(head, tail) >= _SHOWN_AT_BOTH_ENDS:
                return head, tail
        return None


def _parts_of(secret: str) -> Iterator[str]:
    """Every part that gives the secret away, in each encoding, as short as possible."""
    raw = secret.encode(errors="replace")
    for form in {secret, raw.decode("latin-1"), *_in_base64(raw)}:
        for at in range(len(form) - SHORTEST + 1):
            if _is_mixed(form[at : at + SHORTEST]):
                yield form[at : at + SHORTEST]
            if at + SHORTEST_WORD <= len(form):
                yield form[at : at + SHORTEST_WORD]
    yield from () if len(secret) >= SHORTEST_WORD else (secret,)
    for digits in (raw.hex(), raw.hex().upper()):
        for at in range(0, len(digits) - _HEX_DIGITS + 1, 2):
            yield digits[at : at + _HEX_DIGITS]


def _in_base64(raw: bytes) -> Iterator[str]:
    """What base64 makes of it, wherever it stands in what is encoded; only characters that depend on nothing else."""
    for before in range(3):
        for encode in (b64encode, urlsafe_b64encode):
            complete = (before + len(raw)) // 3 * 4
            text = encode(bytes(before) + raw).decode()
            more = ((before + len(raw)) % 3 * 8) // 6
            yield text[(before * 8 + 5) // 6 : complete + more]


def _is_mixed(part: str) -> bool:
    """Whether it has letters of both cases, apart from a capital at its start, or letters and digits."""
    lower, digit = any(map(str.islower, part)), any(map(str.isdigit, part))
    upper = any(map(str.isupper, part))
    return (digit and (lower or upper)) or (lower and any(map(str.isupper, part[1:])))


def _starts(part: str) -> range:
    return range(len(part) - _SEED + 1)


def _masked(text: str, spans: list[tuple[int, int]]) -> str:
    pieces, until = list[str](), 0
    for start, end in sorted(spans):
        if not pieces or start > until:
            pieces += [text[until:start], MASK]
        until = max(until, end)
    return "".join([*pieces, text[until:]])


def _unescaped(match: re.Match[str]) -> str:
    *hexadecimal, decimal, quoted, named = match.groups()
    digits = next(filter(None, hexadecimal), None)
    if digits is not None:
        return chr(int(digits, 16))
    return chr(int(decimal)) if decimal else quoted or _NAMED[named]


def _places(text: str) -> list[int]:
    """Where each character of the unescaped text begins in the text, and its end."""
    places, at = list[int](), 0
    for match in _ESCAPES.finditer(text):
        places += [*range(at, match.start()), match.start()]
        at = match.end()
    return [*places, *range(at, len(text)), len(text)]


def _common_start(text: str, secret: str) -> int:
    """How many characters at the end of the text are the start of the secret."""
    return next((size for size in range(min(len(text), len(secret)), 0, -1) if text.endswith(secret[:size])), 0)


def _common_end(text: str, secret: str) -> int:
    """How many characters at the start of the text are the end of the secret."""
    return next((size for size in range(min(len(text), len(secret)), 0, -1) if text.startswith(secret[-size:])), 0)


_KNOWN: Final = Redactor()
"""What this process was configured with."""


def learn(secrets: Iterable[str]) -> None:
    """Mask these values from now on, wherever this process shows or stores foreign text."""
    _KNOWN.learn(secrets)


def redacted(value: Any, *, also: Iterable[str] = ()) -> Any:
    """The same value, with secrets masked in every text in it; keys and objects of other types stay as they are.

    Args:
        value: Text, or lists and mappings that contain it.
        also: Further secrets, known for this text only.
    """
    if isinstance(value, str):
        known = tuple(also)
        return _KNOWN.text(_redactor_of(known).text(value) if known else value)
    if isinstance(value, dict):
        return {key: redacted(item, also=also) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list | tuple):
        return [redacted(item, also=also) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


@lru_cache(maxsize=256)
def _redactor_of(secrets: tuple[str, ...]) -> Redactor:
    return Redactor(secrets)


_BETWEEN_CHUNKS: Final = 4 * 1024
"""Characters at the end of a chunk that are looked at again with the next."""
_STEP: Final = 509
"""Characters between two places at which a chunk may be cut."""
_MOST_INFLATED: Final = 256 * 1024
"""Bytes that are inflated at a time."""
_GATHERED: Final = 64 * 1024
_GZIP: Final = b"\x1f\x8b"
_GZIP_WINDOW: Final = 31
"""For zlib: a gzip header, and the largest window."""


async def redacted_chunks(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Foreign bytes, chunk by chunk, with secrets masked; everything else stays as it is, whatever its encoding.

    What is compressed is inflated: nobody could see what is in it.
    """
    held, encoding = b"", ""
    async for chunk in _gathered(_inflated(_gathered(chunks))):
        encoding = encoding or _encoding_of(chunk)
        data = held + chunk
        odd = len(data) % 2 if encoding != "latin-1" else 0
        text = data[: len(data) - odd].decode(encoding, errors="surrogatepass")
        masked, rest = await asyncio.to_thread(_masked_beginning, text)
        held = rest.encode(encoding, errors="surrogatepass") + data[len(data) - odd :]
        if masked:
            yield masked.encode(encoding, errors="surrogatepass")
    if held:
        text = held.decode(encoding, errors="replace" if encoding != "latin-1" else "strict")
        yield _KNOWN.text(text).encode(encoding, errors="surrogatepass")


def _masked_beginning(text: str) -> tuple[str, str]:
    """The text up to a place at which no secret lies, masked, and the rest as it is."""
    whole = _KNOWN.text(text)
    for cut in range(len(text) - _BETWEEN_CHUNKS, len(text), _STEP):
        if cut > 0 and (beginning := _KNOWN.text(text[:cut])) + _KNOWN.text(text[cut:]) == whole:
            return beginning, text[cut:]
    return "", text


def _encoding_of(beginning: bytes) -> str:
    """UTF-16 where the bytes look like it; otherwise Latin-1, in which every byte is a character and comes back."""
    even, odd = beginning[:64:2], beginning[1:64:2]
    if beginning.startswith(b"\xff\xfe") or (odd and not any(odd)):
        return "utf-16-le"
    return "utf-16-be" if beginning.startswith(b"\xfe\xff") or (even and not any(even)) else "latin-1"


async def _gathered(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The same bytes in larger chunks."""
    data = bytearray()
    async for chunk in chunks:
        data += chunk
        if len(data) >= _GATHERED:
            yield bytes(data)
            data.clear()
    if data:
        yield bytes(data)


async def _inflated(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    inflater = None
    first = True
    async for chunk in chunks:
        if first and chunk.startswith(_GZIP):
            inflater = zlib.decompressobj(_GZIP_WINDOW)
        first = first and not chunk
        if inflater is None:
            yield chunk
            continue
        rest = chunk
        while rest and not inflater.eof:
            try:
                yield inflater.decompress(rest, _MOST_INFLATED)
            except zlib.error:
                return
            rest = inflater.unconsumed_tail
