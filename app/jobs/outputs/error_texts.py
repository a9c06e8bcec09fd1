"""Whether a short text in place of a result is words about a failure, or a result in a format that is made of text."""

import re
from typing import Any, Final, cast

import msgspec

MOST_BYTES: Final = 64 * 1024
"""Of what is taken for words about a failure."""
_MEMBERS: Final = frozenset(
    {
        "error",
        "errors",
        "detail",
        "details",
        "message",
        "msg",
        "code",
        "status",
        "title",
        "reason",
        "fault",
        "description",
    }
)
"""Members of an object that tells of a failure."""
_FAULT: Final = re.compile(rb"<(?:\w+:)?(?:error|fault|errormessage|exception)\b", re.IGNORECASE)
_FIRST_WORDS: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:P[1-7]\s|OFF\b|COFF\b|ply\s|solid\s|#VRML|#X3D|#usda|ISO-10303|/\* XPM|#define\s|"
    rb"0\s+SECTION|#EXTM3U|WEBVTT|1\s+00:|BEGIN:|%!PS|Kaydara|; FBX|v\s|o\s|mtllib\s)"
)
"""What formats that are made of text begin with."""
_NUMBER: Final = re.compile(rb"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?,?", re.IGNORECASE)
NUMBERS_SHARE: Final = 0.5
"""Of the words of a table, or of coordinates."""


def tells_of_a_failure(text: bytes, media_type: str) -> bool:
    """Whether a text that the model does not make, whole, is words about a failure.

    Args:
        text: All of it.
        media_type: As it was described.
    """
    if len(text) >= MOST_BYTES:
        return False
    if media_type == "application/json":
        return _is_failure(text)
    if media_type.endswith("/xml"):
        return _FAULT.search(text) is not None
    if _FIRST_WORDS.match(text):
        return False
    words = text.split()
    numbers = sum(_NUMBER.fullmatch(word) is not None for word in words)
    return numbers < NUMBERS_SHARE * len(words) or not words


def _is_failure(text: bytes) -> bool:
    try:
        value: Any = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return True
    if not isinstance(value, dict):
        # A list or a word is no result of a model that makes none.
        return True
    members = cast("dict[str, Any]", value)
    return not members or any(name.lower() in _MEMBERS for name in members)
