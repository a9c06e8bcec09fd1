"""Parses answers of Cog models, self-hosted or at Replicate: outputs of any shape, and progress in the log."""

import binascii
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from app.media_generator.errors import OutputError

MAX_FAILURE_CHARS: Final = 2_000
"""Characters."""
_PROGRESS: Final = re.compile(r"(\d{1,3})%\s*\|")
_FILE: Final = re.compile(r"(?:https?://|data:)", re.IGNORECASE)


def progress(logs: str) -> float | None:
    """The last percentage of a progress bar like tqdm's, as 0 to 1; None: there is none."""
    found = _PROGRESS.findall(logs)
    return min(int(found[-1]), 100) / 100 if found else None


def failure(error: Any, status: str) -> str:
    """Cog's error message, without the prefix that each of its layers repeats."""
    words = str(error or f"it ended as {status}")
    head, colon, rest = words.partition(": ")
    while colon and rest.startswith(head + colon):
        words = rest
        rest = words.removeprefix(head + colon)
    return words[:MAX_FAILURE_CHARS]


def files(output: Any) -> list[str]:
    """The files in an output of any shape, in order; if there are none, its text as a data URI."""
    strings = list(_strings(output))
    found = [text for text in strings if _FILE.match(text)]
    if found or not strings:
        return found
    # A model that yields text returns it in pieces.
    text = "".join(strings)
    return ["data:text/plain;charset=utf-8," + "".join(f"%{byte:02x}" for byte in text.encode())]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():  # pyright: ignore[reportUnknownVariableType] - JSON
            yield from _strings(one)
    elif isinstance(value, list):
        for one in value:  # pyright: ignore[reportUnknownVariableType] - JSON
            yield from _strings(one)


def decode_data_uri(uri: str) -> bytes:
    """The bytes of a data URI.

    Raises:
        OutputError: It is not a complete data URI.
    """
    head, comma, content = uri.partition(",")
    if not comma:
        raise OutputError("the result is not a complete data URI")
    if not head.lower().endswith(";base64"):
        return unquote_to_bytes(content)
    try:
        return b64decode(content, validate=True)
    except binascii.Error as error:
        raise OutputError("the result is not valid base64") from error
