"""GIF, block by block: its size and its end.

Source: GIF89a Specification, sections 18 to 27.
"""

from typing import Final

_HEADER: Final = 13
"""Bytes of signature and logical screen."""
_IMAGE, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B
_IMAGE_BYTES: Final = 10


def _table_bytes(packed: int) -> int:
    return 3 << ((packed & 7) + 1) if packed & 0x80 else 0


class GifBlocks:
    """Reads a GIF that arrives in pieces."""

    def __init__(self) -> None:
        self._buffer = b""
        self._skip = 0
        self._in_data = False
        """Whether data sub-blocks are being read."""
        self._screen: tuple[int, int] | None = None
        self._first: tuple[int, int] | None = None
        """Where the first picture ends, to the right and below."""
        self.is_complete = False
        """Whether its trailer has come."""
        self.is_damaged = False
        """Whether a block is of no kind that there is: where it ends cannot be told."""

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height; None: not seen yet, or its first picture does not fit the screen."""
        if self._screen is None or self._first is None or min(self._screen) < 1:
            return None
        fits = self._first[0] <= self._screen[0] and self._first[1] <= self._screen[1]
        return self._screen if fits else None

    def feed(self, chunk: bytes) -> None:
        """Read the next piece."""
        data, place = self._buffer + chunk, 0
        while not (self.is_complete or self.is_damaged):
            if self._skip:
                step = min(self._skip, len(data) - place)
                self._skip -= step
                place += step
                if self._skip:
                    break
            step = self._read(data, place)
            if not step:
                break
            place += step
        self._buffer = data[place:] if not (self.is_complete or self.is_damaged) else b""

    def _read(self, data: bytes, place: int) -> int:
        """Read one block or sub-block; returns how many bytes, 0: more are needed."""
        if self._screen is None:
            return self._read_screen(data)
        if place >= len(data):
            return 0
        if self._in_data:
            self._skip = data[place]
            self._in_data = self._skip > 0
            return 1
        name = data[place]
        if name == _IMAGE:
            return self._read_image(data, place)
        if name == _EXTENSION:
            self._in_data = len(data) >= place + 2
            return 2 if self._in_data else 0
        self.is_complete = name == _TRAILER
        # Zero bytes between blocks are written by some encoders, and skipped by all readers.
        self.is_damaged = name not in {_TRAILER, 0}
        return 1

    def _read_screen(self, data: bytes) -> int:
        if len(data) < _HEADER:
            return 0
        self._screen = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
        self._skip = _table_bytes(data[10])
        return _HEADER

    def _read_image(self, data: bytes, place: int) -> int:
        if len(data) < place + _IMAGE_BYTES + 1:
            return 0
        left, top, width, height = (int.from_bytes(data[place + at : place + at + 2], "little") for at in (1, 3, 5, 7))
        if self._first is None:
            self._first = left + width, top + height
        # The colour table and the size of the codes, then the data.
        self._skip = _table_bytes(data[place + 9]) + 1
        self._in_data = True
        return _IMAGE_BYTES
