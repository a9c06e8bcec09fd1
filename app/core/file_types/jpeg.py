"""JPEG, segment by segment: its size, wherever its frame header is, and its end.

Source: ITU-T T.81, sections B.1.1 and B.2.2.
"""

from io import BytesIO
from typing import Any, Final

import imagesize  # pyright: ignore[reportMissingTypeStubs] - it has none

_MARKER: Final = 0xFF
_START: Final = b"\xff\xd8"
_END: Final = b"\xff\xd9"
_END_NAME: Final = 0xD9
_SCAN: Final = 0xDA
_EXIF: Final = 0xE1
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a segment."""
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Frame headers of all kinds of compression."""
_FRAME_BYTES: Final = 8
"""Of a frame header, with its length: as far as height and width."""


class JpegSegments:
    """Reads a JPEG that arrives in pieces."""

    def __init__(self) -> None:
        self._buffer = b""
        """What is not read yet of the header segments; in the picture's data, the last byte."""
        self._skip = 2
        self._in_scan = False
        self._exif = b""
        self._frame = b""
        self.is_complete = False
        """Whether the end of its first picture has come."""

    def feed(self, chunk: bytes) -> None:
        """Read the next piece."""
        if self.is_complete:
            return
        data = self._buffer + chunk
        if not self._in_scan:
            data = self._read_segments(data)
        if self._in_scan:
            self.is_complete = self.is_complete or _END in data
            data = data[-1:]
        self._buffer = data

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height as displayed, by its Exif orientation; None: not seen yet, or only the picture says it."""
        if not self._frame or not any(self._frame[3:5]) or not any(self._frame[5:7]):
            return None
        begin = BytesIO(_START + self._exif + b"\xff\xc0" + b"\x00\x11" + self._frame[2:7] + b"\x03" + bytes(9) + _END)
        try:
            found: Any = imagesize.get(begin)  # pyright: ignore[reportUnknownMemberType] - untyped
        except Exception:  # noqa: BLE001 - odd Exif: a library must not decide about the file
            return None
        width, height = int.from_bytes(self._frame[5:7]), int.from_bytes(self._frame[3:5])
        return tuple(found) if sorted(found) == sorted((width, height)) else None

    def _read_segments(self, data: bytes) -> bytes:
        """Read whole segments; returns what is left, or the picture's data."""
        place = self._skip
        while place < len(data):
            if data[place] != _MARKER:
                self._in_scan = True  # damaged: any end mark that follows is taken for the end
            elif len(data) < place + 4:  # a marker and a length
                self.is_complete = data.startswith(_END, place)
            elif (step := self._read_segment(data, place)) and not self._in_scan:
                place += step
                continue
            break
        self._skip = max(place - len(data), 0)
        return data[place:]

    def _read_segment(self, data: bytes, place: int) -> int:
        """Read one marker; returns how many bytes it has with its segment, 0: more are needed, or none."""
        name, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4])
        if name == _MARKER or name in _ALONE:
            return 1 if name == _MARKER else 2
        needed = self._needed(name, length, data[place + 4 : place + 10])
        if name == _END_NAME or len(data) < place + needed:
            self.is_complete = name == _END_NAME
            return 0
        self._keep(name, data[place : place + needed])
        self._in_scan = name == _SCAN
        return 2 + length

    def _needed(self, name: int, length: int, content: bytes) -> int:
        """Bytes of a segment that must be there at once."""
        if name in _FRAMES:
            return 2 + _FRAME_BYTES
        if name == _EXIF and not self._exif and b"Exif\x00\x00".startswith(content):
            return 2 + length
        return 4

    def _keep(self, name: int, segment: bytes) -> None:
        if name in _FRAMES and not self._frame:
            self._frame = segment[2:]
        elif name == _EXIF and not self._exif and segment[4:10] == b"Exif\x00\x00":
            self._exif = segment
