"""How an `input` names files: where a schema takes one, and what the text refers to. Nothing is fetched here.

A string whose schema says `"format": "uri"` may be an `https:` URL, a `data:` URI, `media:{media_id}` (its first file;
`media:{media_id}#1` the second) or `file:{file_id}`.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import unquote_to_bytes
from uuid import UUID

from app.core.http_client.addresses import refusal
from app.media_generator.adapter_kit.lenient_json import entries

LONGEST_DATA: Final = 256 * 1024
"""Characters of a `data:` URI; a longer file is uploaded with POST /files."""
DEEPEST: Final = 20
"""Levels of a schema that are searched."""
REFERENCE_FORMS: Final = "an https: URL, a data: URI, media:{media_id} or file:{file_id}"
_UUID: Final = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_MEDIA: Final = re.compile(rf"media:({_UUID})(?:(?:#|\?index=)([0-9]{{1,3}}))?")
_FILE: Final = re.compile(rf"file:({_UUID})")
_DATA: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+-]+=[^;,]*)*)(;base64)?,", re.IGNORECASE)
_NOT_BASE64: Final = re.compile(r"\s|%0[aAdD]|%20")

_MAY_NAME_FILES: Final = (str, list, dict)

Path = tuple[str | int, ...]


class InvalidReferenceError(ValueError):
    """The text names no file; the message is the end of a sentence that begins with the field."""


@dataclass(frozen=True, slots=True)
class Url:
    """A file on the internet."""

    url: str


@dataclass(frozen=True, slots=True)
class InlineData:
    """A file inside the request."""

    data: bytes


@dataclass(frozen=True, slots=True)
class OutputReference:
    """An output of a media item of the same owner."""

    media_id: UUID
    index: int


@dataclass(frozen=True, slots=True)
class UploadReference:
    """An upload of the same owner."""

    upload_id: UUID


Reference = Url | InlineData | OutputReference | UploadReference


def parse_reference(text: str, *, allow_private: bool) -> Reference:
    """The file that a text names.

    Args:
        text: As the caller gave it.
        allow_private: The setting ALLOW_PRIVATE_ADDRESSES; `http:` is taken only then.

    Raises:
        InvalidReferenceError: It names none.
    """
    scheme = text.partition(":")[0].lower()
    if scheme == "data":
        return InlineData(_bytes_of(text))
    if scheme == "media" and (found := _MEDIA.fullmatch(text)):
        return OutputReference(UUID(found[1]), int(found[2] or 0))
    if scheme == "file" and (found := _FILE.fullmatch(text)):
        return UploadReference(UUID(found[1]))
    if scheme == "https" or (scheme == "http" and allow_private):
        if (fault := refusal(text, allow_private=allow_private)) is not None:
            raise InvalidReferenceError(fault)
        return Url(text)
    raise InvalidReferenceError(f"must be {REFERENCE_FORMS}")


def _bytes_of(text: str) -> bytes:
    if len(text) > LONGEST_DATA:
        raise InvalidReferenceError(
            f"is a data: URI of more than {LONGEST_DATA} characters; upload it with POST /files"
        )
    head = _DATA.match(text)
    if head is None:
        raise InvalidReferenceError("must be a data: URI like data:image/png;base64,iVBOR...")
    content = text[head.end() :]
    if head[3] is None:
        return unquote_to_bytes(content)
    try:
        return base64.b64decode(_NOT_BASE64.sub("", content), validate=True)
    except (ValueError, binascii.Error):
        raise InvalidReferenceError("is declared as base64, but is not valid base64") from None


def file_places(schema: Mapping[str, Any], given: Any) -> Iterator[tuple[Path, str]]:
    """Every place of an input where a file may be named, and the text there."""
    seen = set[Path]()
    for path, text in _file_places(schema, schema, given, ()):
        if path not in seen:
            seen.add(path)
            yield path, text


def _file_places(root: Mapping[str, Any], schema: Any, value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if not isinstance(schema, Mapping) or len(path) > DEEPEST:
        return
    checked: Mapping[str, Any] = cast("Mapping[str, Any]", schema)
    for rule in _alternatives(root, checked):
        if isinstance(value, str):
            if rule.get("format") == "uri":
                yield path, value
            continue
        for key, child in _children(value):
            # Numbers and the like name no file: most inputs have nothing else, and are cheap to search.
            if isinstance(child, _MAY_NAME_FILES):
                yield from _file_places(root, _rule_of(rule, key), child, (*path, key))


def _children(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, dict):
        yield from cast("dict[str, Any]", value).items()
    else:
        yield from enumerate(entries(value))


def _alternatives(root: Mapping[str, Any], schema: Mapping[str, Any], depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """The schema, and all parts it is composed of."""
    yield schema
    if depth >= DEEPEST:
        return
    parts: list[Any] = [part for word in ("anyOf", "oneOf", "allOf") for part in schema.get(word, ())]
    if isinstance(target := schema.get("$ref"), str):
        parts.append(_follow(root, target))
    for part in parts:
        if isinstance(part, Mapping):
            yield from _alternatives(root, cast("Mapping[str, Any]", part), depth + 1)


def _follow(root: Mapping[str, Any], target: str) -> Any:
    found: Any = root
    for word in target.removeprefix("#/").split("/"):
        name = word.replace("~1", "/").replace("~0", "~")
        found = cast("Mapping[str, Any]", found).get(name) if isinstance(found, Mapping) else None
    return found


def _rule_of(rule: Mapping[str, Any], key: str | int) -> Any:
    if isinstance(key, str):
        return rule.get("properties", {}).get(key, rule.get("additionalProperties"))
    prefix: Sequence[Any] = rule.get("prefixItems", ())
    return prefix[key] if key < len(prefix) else rule.get("items")


def with_replaced_text(given: Any, change: Callable[[Path, str], str], paths: frozenset[Path], path: Path = ()) -> Any:
    """The same input with other text at some places."""
    if path in paths:
        return change(path, given)
    changed = {key: with_replaced_text(child, change, paths, (*path, key)) for key, child in _children(given)}
    if isinstance(given, dict):
        return changed
    return list(changed.values()) if isinstance(given, list) else given  # pyright: ignore[reportUnknownVariableType]


def field_name(path: Path) -> str:
    """A place as a field of the request, such as `input.images.0`."""
    return ".".join(["input", *(str(part) for part in path)])
