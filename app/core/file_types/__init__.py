"""Recognises files: type and size are read from the bytes themselves, never from a header or a name."""

from app.core.file_types.description import describe
from app.core.file_types.ends import EndDetector
from app.core.file_types.kind import HEAD_BYTES, HTML, JSON, SVG, TEXT, UNKNOWN, XML, Kind, content_type_of

__all__ = [
    "HEAD_BYTES",
    "HTML",
    "JSON",
    "SVG",
    "TEXT",
    "UNKNOWN",
    "XML",
    "EndDetector",
    "Kind",
    "content_type_of",
    "describe",
]
