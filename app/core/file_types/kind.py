"""What a file is: its type, its extension and, of a picture, its size."""

from dataclasses import dataclass
from typing import Final

HEAD_BYTES: Final = 64 * 1024
"""The part at the beginning by which a file is recognised."""

JSON: Final = "application/json"
TEXT: Final = "text/plain"
HTML: Final = "text/html"
XML: Final = "application/xml"
SVG: Final = "image/svg+xml"
UNKNOWN: Final = "application/octet-stream"
_TEXTS: Final = frozenset({JSON, TEXT, HTML, XML, SVG})
_SERVED_MAIN: Final = frozenset({"image", "video", "audio", "model", "font", "application"})
_SCRIPTED: Final = frozenset(
    {HTML, XML, "application/javascript", "application/x-javascript", "application/ecmascript"}
)


@dataclass(frozen=True, slots=True)
class Kind:
    """The type of a file."""

    media_type: str
    extension: str
    """Without the dot."""
    width: int | None = None
    """In pixels, as displayed; None: not a picture, or the beginning does not say it for certain."""
    height: int | None = None

    @property
    def is_text(self) -> bool:
        """Whether it consists of characters, in UTF-8."""
        return self.media_type in _TEXTS

    @property
    def is_media(self) -> bool:
        """Whether it is a picture, a video or a sound. SVG is none: it is text, and may contain scripts."""
        return self.media_type.partition("/")[0] in {"image", "video", "audio"} and not self.is_text

    @property
    def content_type(self) -> str:
        """As a Content-Type header."""
        return content_type_of(self.media_type)


NOTHING_KNOWN: Final = Kind(UNKNOWN, "bin")


def content_type_of(media_type: str) -> str:
    """The Content-Type header of a stored file: never a type whose scripts a browser runs."""
    main = media_type.partition("/")[0]
    if media_type in _SCRIPTED or media_type.endswith("+xml") or main == "text":
        return f"{TEXT}; charset=utf-8"
    return media_type if main in _SERVED_MAIN else UNKNOWN
