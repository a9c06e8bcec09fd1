"""Where the files of an answer are: at addresses as services write them, or in the answer itself.

A place is an absolute URL, or a data URI. `find_places` finds those in a value of any shape; `data_chunks` decodes a
data URI as leniently as addresses are read.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from enum import IntEnum
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote_to_bytes, urljoin, urlsplit, urlunsplit

from app.media_generator.adapter_kit.lenient_json import entries, members
from app.media_generator.errors import OutputError

CHUNK_BYTES: Final = 64 * 1024
INLINE: Final = ("b64_json", "b64", "base64", "b64_image", "image_base64", "file_data", "data_uri")
"""Members that hold a file itself."""
ADDRESSES: Final = (
    "url",
    "image_url",
    "video_url",
    "audio_url",
    "file_url",
    "download_url",
    "signed_url",
    "uri",
    "href",
)
"""Members that name a file."""
_NAMES: Final = frozenset(
    {
        "file_name",
        "filename",
        "name",
        "original_name",
        "title",
        "key",
        "id",
        "prompt",
        "text",
        "caption",
        "content_type",
    }
)
"""Members that say what a file is called, or shows; never where it is."""
_LINKS: Final = re.compile(
    r"licen[sc]e|docs?|documentation|homepage|help|support|web_?hook|callback|(?:status|cancel|response|queue|self|get"
    r"|stream|web|docs?|callback|web_?hook|help|support|licen[sc]e)_?(?:url|uri)?",
    re.IGNORECASE,
)
"""Members that name a page or an endpoint, unless it is called like a file."""
BASE64_FILE: Final = re.compile(
    r"iVBORw0KGgo|[/_]9j[/_]|R0lGOD|UklGR|T2dnU|SUQz|ZkxhQ|GkXfo|AAAA..Z0eX|AAAADEpY|SUkqA|TU0AK|Z2xURg|JVBERi|UEsDB"
)
"""The beginning of a file of a well-known kind in base64: PNG, JPEG, GIF, RIFF, Ogg, ID3, FLAC, Matroska, MP4, ..."""
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_=\s-]{16,}")
_DATA: Final = re.compile(r"data:", re.IGNORECASE)
_HTTP: Final = re.compile(r"https?://\S", re.IGNORECASE)
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_HOST_ONLY: Final = re.compile(r"https?://[^/?#]*/?", re.IGNORECASE)
_ABSOLUTE_PATH: Final = re.compile(r"//?[^\s/]\S*")
_FILE_NAME: Final = re.compile(r"(?=\S++\Z)(?:\.{0,2}/)\S*\.[A-Za-z0-9]{2,5}(?:[?#]\S*)?")
_KNOWN_EXTENSION: Final = re.compile(
    r"\.(?:png|jpe?g|jfif|gif|webp|avif|hei[cf]|bmp|tiff?|svg|ico|psd|exr|hdr|jxl|jp2|apng|mp4|m4v|mov|webm|mkv|avi"
    r"|mpe?g|ogv|mp3|wav|flac|og[ga]|opus|m4a|aac|aiff?|midi?|gl[bt]f?|obj|fbx|stl|ply|usd[az]?|usdz|blend|splat|spz"
    r"|zip|tar|t?gz|7z|pdf|txt|json|csv|srt|vtt|md|safetensors|onnx|ckpt|np[yz]|ppm|pgm)$",
    re.IGNORECASE,
)
_FILE_EXTENSION: Final = re.compile(r"\.[A-Za-z0-9]{2,5}$")
_NAMES_A_FILE: Final = re.compile(rf"/|{_FILE_EXTENSION.pattern}")
_NOTHING: Final = frozenset({"n/a", "none", "null"})
_BLANK: Final = re.compile(r"\s")
_DATA_URI: Final = re.compile(r"data:[^,\s]*,", re.IGNORECASE)
_WRITTEN_OUT: Final = re.compile(
    r"https?://[\w.:\[\]@~%!$&'()*+,;=-]+(?:[/?](?:[!$&-;=?-Z\[\]_a-z~]|%[0-9A-Fa-f]{2})*+)?", re.ASCII
)
"""An absolute URL in which nothing has to be encoded: it is used unchanged, because it may be signed."""
_STRAY_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DOTS: Final = re.compile(r"/\.{1,2}(?:/|$)")
_SAFE: Final = "!$%&'()*+,/:;=?@[]~"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ufffd]+")
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_PORTS: Final = {"http": 80, "https": 443}
_NO_DIGITS: Final = b"\r\n\t \x00\x0b\x0c"

_FILES: Final = (*INLINE, *ADDRESSES)
_LONGEST_LIST: Final = 64 * 1024
"""Characters of a text that may be a list of addresses."""

_Place = TypeVar("_Place")


class Surety(IntEnum):
    """How clearly a text is a file."""

    BESIDE_OTHERS = 1  # an absolute path, as commands and routes are, too
    IF_NO_TEXT = 2  # a relative path with a well-known extension
    SURE = 3


def find_places(value: Any, base: str) -> list[str]:
    """The files in a value of any shape: every text that clearly is a place, in order, without duplicates.

    Args:
        value: From an answer.
        base: The URL that the answer came from; relative addresses belong to it.
    """
    return find_with(value, partial(place_in, base=base))


def find_with(value: Any, reader: Callable[[str, str], _Place | None]) -> list[_Place]:
    """The same with a reader of one's own.

    Args:
        value: From an answer.
        reader: Reads the place in a text, which is in a member of this name; empty: in none that says what it is. None:
            it names no file.
    """
    found = list(places_of(value, reader))
    least = Surety.BESIDE_OTHERS if any(how > Surety.BESIDE_OTHERS for _, how in found) else Surety.IF_NO_TEXT
    return distinct(place for place, how in found if how >= least)


def distinct(places: Iterable[_Place]) -> list[_Place]:
    """The places, each address once; of two files that are in the answer itself both count, although they are equal."""
    seen, kept = set[object](), list[_Place]()
    for place in places:
        if _is_inside(place) or place not in seen:
            kept.append(place)
        seen.add(place)
    return kept


def _is_inside(place: object) -> bool:
    return not isinstance(place, str) or is_data_uri(place)


def places_of(
    value: Any, reader: Callable[[str, str], _Place | None], name: str = ""
) -> Iterator[tuple[_Place, Surety]]:
    """Every text that may be a place, in order, and how clearly it is one."""
    if isinstance(value, str):
        for text in _listed_in(value):
            if (place := reader(text, name if name in _FILES else "")) is not None:
                yield from _with_surety(place, text, name)
        return
    for one in entries(value):
        yield from places_of(one, reader, name)
    fields = members(value)
    # What stands beside the place of a file describes it.
    describes = any(isinstance(fields.get(one), str) and reader(fields[one], one) is not None for one in _FILES)
    for member in sorted(fields, key=lambda one: one not in _FILES) if describes else fields:
        for place, how in places_of(fields[member], reader, member):
            if how is Surety.SURE or not describes or not isinstance(fields[member], str):
                yield place, how


def _with_surety(place: _Place, text: str, name: str) -> Iterator[tuple[_Place, Surety]]:
    if not isinstance(place, str) or name in INLINE or _DATA.match(place) or BASE64_FILE.match(text):
        yield place, Surety.SURE
    elif _SCHEME.match(text.strip()):
        is_link = _HOST_ONLY.fullmatch(text.strip()) or (name not in _FILES and _LINKS.fullmatch(name))
        if _is_named(text) or not is_link:
            yield place, Surety.SURE
    elif name in _FILES:
        yield place, Surety.SURE
    elif name not in _NAMES:
        named = _is_named(text) or _FILE_NAME.fullmatch(text)
        yield place, Surety.IF_NO_TEXT if named else Surety.BESIDE_OTHERS


def _is_named(text: str) -> bool:
    """Whether an address ends with a well-known extension, before its query."""
    return _KNOWN_EXTENSION.search(text.strip().partition("?")[0].partition("#")[0]) is not None


def _listed_in(text: str) -> list[str]:
    """The addresses in a text that is a list of them; otherwise the text."""
    parts = text.split() if len(text) < _LONGEST_LIST else [text]
    return parts if len(parts) > 1 and all(map(_HTTP.match, parts)) else [text]


def place_in(text: str, name: str = "", *, base: str) -> str | None:
    """The place in a text; None: it names no file.

    Args:
        text: An address, a data URI, or base64.
        name: Of the member that it is in: one of INLINE says that it is base64, one of ADDRESSES that it is an address.
        base: The URL that the answer came from.
    """
    text = text.strip("\x00\ufeff\ufffd").strip()
    if _DATA.match(text) and (name or _DATA_URI.match(text)):
        return text
    if _HTTP.match(text) and (name or _FILE_EXTENSION.search(text) or not _BLANK.search(text)):
        return absolute(text, base)
    if (text and name in INLINE) or (BASE64_FILE.match(text) and _BASE64.fullmatch(text)):
        return f"data:;base64,{text}"
    if _SCHEME.fullmatch(text):
        # It cannot be requested, which whoever opens it is told.
        return text if name or _is_named(text) else None
    is_relative = name and text.lower() not in _NOTHING and _NAMES_A_FILE.search(text)
    is_path = not _BLANK.search(text) and (_is_named(text) or _ABSOLUTE_PATH.match(text))
    return absolute(text, base) if is_relative or is_path or _FILE_NAME.fullmatch(text) else None


def absolute(text: str, base: str) -> str:
    """An address as it can be requested: absolute, percent-encoded, without `..`; what is encoded stays as it is."""
    text = _CONTROL.sub("", text).strip().partition("#")[0]
    if _WRITTEN_OUT.fullmatch(text) and not _DOTS.search(text):
        return text
    try:
        parts = urlsplit(urljoin(base, text))
        host = parts.netloc.encode("idna").decode() if not parts.netloc.isascii() else parts.netloc
    except (ValueError, UnicodeError):
        # Whoever opens it is told why it cannot be.
        return text
    return urlunsplit((parts.scheme, host, _encoded(_without_dots(parts.path)), _encoded(parts.query), ""))


def is_same_origin(url: str, base: str) -> bool:
    """Whether a URL belongs to the same server as another, so that it may get what that one gets."""
    try:
        return _origin(url) == _origin(base)
    except ValueError:
        return False


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port, in lower case and with the port that the scheme has (RFC 6454, section 4)."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port if parts.port is not None else _PORTS.get(parts.scheme)


def is_data_uri(location: str) -> bool:
    """Whether a place is a data URI."""
    return _DATA.match(location) is not None


async def data_chunks(uri: str) -> AsyncGenerator[bytes]:
    """The bytes of a data URI, chunk by chunk.

    Raises:
        OutputError: It is not complete, or not base64.
    """
    content = decode_data_uri(uri)
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]


def decode_data_uri(uri: str) -> bytes:
    """The bytes of a data URI, whatever its type and parameters are.

    Raises:
        OutputError: It is not complete, or not base64.
    """
    head, comma, content = uri.partition(",")
    if not comma or not is_data_uri(uri):
        raise OutputError("the result is not a complete data URI")
    if is_base64(head) or (BASE64_FILE.match(content) and _BASE64.fullmatch(content)):
        return decode_base64(unquote_to_bytes(content) if "%" in content else content.encode(errors="replace"))
    return unquote_to_bytes(content)


def is_base64(head: str) -> bool:
    """Whether what stands before the comma of a data URI says that base64 follows."""
    return any(part.strip().lower() == "base64" for part in head.split(";")[1:])


def decode_base64(digits: bytes) -> bytes:
    """The bytes of base64, also URL-safe, without padding, and in lines.

    Raises:
        OutputError: It is not base64.
    """
    digits = digits.translate(_URL_SAFE, _NO_DIGITS).rstrip(b"=")
    try:
        return b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except binascii.Error as error:
        raise OutputError(f"the result is not valid base64: {error}") from error


def _encoded(part: str) -> str:
    return quote(_STRAY_PERCENT.sub("%25", part), safe=_SAFE)


def _without_dots(path: str) -> str:
    if not _DOTS.search(path):
        return path
    kept = list[str]()
    for segment in (segments := path.split("/")):
        if segment == "..":
            del kept[max(len(kept) - 1, 1) :]
        elif segment != ".":
            kept.append(segment)
    return "/".join(kept) + ("/" if segments[-1] in {".", ".."} else "")
