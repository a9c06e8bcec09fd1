"""Text, and which text: JSON, HTML, SVG, XML, 3D in words, or plain (subtitles and tables, too)."""

import json
import re
from collections.abc import Collection
from typing import Final

from app.core.file_types import scenes
from app.core.file_types.kind import HEAD_BYTES, HTML, JSON, SVG, TEXT, XML, Kind

_BOM: Final = b"\xef\xbb\xbf"
_PROLOG: Final = r"(?>\s+|<!--.*?-->|<\?.*?\?>)*+"
"""Blanks, comments and instructions; possessive, like all that is repeated here: linear for every text."""
_HTML: Final = re.compile(_PROLOG + r"(?:<!doctype\s+html|<(?:html|head|body|script)\b)", re.IGNORECASE | re.DOTALL)
_DOCTYPE: Final = r"(?:<!doctype\s++svg[^>\[]*+(?>\[.*?\]\s*+(?=>))?>)?"
_SVG: Final = re.compile(_PROLOG + _DOCTYPE + _PROLOG + r"<(?:\w+:)?svg\b", re.IGNORECASE | re.DOTALL)
_XML: Final = re.compile(r"\s*<\?xml\s")
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")


def recognise(head: bytes, texts: Collection[str] = ()) -> Kind | None:
    """The type of a text in UTF-8; None: it is none.

    Args:
        head: Its beginning.
        texts: The types that are expected; JSON counts as plain text where only that is.
    """
    text = _decoded(head)
    if text is None or not text.strip("\x00 \t\r\n"):
        return Kind(TEXT, "txt") if text else None
    if _SVG.match(text):
        return Kind(SVG, "svg")
    if _HTML.match(text):
        return Kind(HTML, "html")
    if _XML.match(text):
        return Kind(XML, "xml")
    plain_only = any(kind.startswith("text/") for kind in texts) and JSON not in texts
    scene = None if JSON in texts else scenes.recognise_text(head.removeprefix(_BOM))
    if scene is not None:
        return scene
    return Kind(JSON, "json") if not plain_only and _is_json(text, whole=len(head) < HEAD_BYTES) else Kind(TEXT, "txt")


def _decoded(head: bytes) -> str | None:
    """The characters; None: they are none in UTF-8, or some that no text has."""
    data = head.removeprefix(_BOM)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        # Only the last character may be cut in two, by the end of the head.
        if len(head) < HEAD_BYTES or error.start < len(data) - 3:
            return None
        text = data[: error.start].decode()
    return None if _CONTROLS.search(text) else text


def _is_json(text: str, *, whole: bool) -> bool:
    begin = text.lstrip()[:1]
    if not whole:
        return begin in {"{", "["}
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    # A single word or number is text, unless JSON was asked for; both are read the same.
    return True
