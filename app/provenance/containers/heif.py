"""Where the XMP of an AVIF or HEIC picture is: an item of the `meta` box, whose bytes lie elsewhere in the file.

Source: ISO/IEC 14496-12, sections 8.11.3 (`iloc`) and 8.11.6 (`iinf`); ISO/IEC 23008-12, annex A.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from app.provenance.containers.chunks import u32
from app.provenance.errors import DamagedError

_CONTENT_TYPE: Final = b"application/rdf+xml\x00"
_FULL: Final = 12
"""Bytes of the header of a box with version and flags."""


@dataclass(frozen=True, slots=True)
class Extent:
    """One piece of data, and where its offset and length are written."""

    offset: int
    length: int
    offset_at: int
    length_at: int
    offset_width: int
    length_width: int


def xmp_extent(meta: bytes, place: int) -> Extent | None:
    """Of the XMP; None: there is none, or not in one piece at an offset of the file.

    Args:
        meta: The whole box.
        place: Where it begins in the file.

    Raises:
        DamagedError: The box is not what its format prescribes.
    """
    if _CONTENT_TYPE not in meta:
        return None
    boxes = {name: (start, end) for name, start, end in _boxes(meta, _FULL, len(meta))}
    if b"iinf" not in boxes or b"iloc" not in boxes:
        raise DamagedError("its list of items is incomplete")
    item = _item(meta, *boxes[b"iinf"])
    return None if item is None else _Locations(meta, boxes[b"iloc"][0], place).extent(item)


def _boxes(data: bytes, place: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, beginning and end."""
    while place + 8 <= end:
        size = u32(data, place)
        if size < 8 or place + size > end:  # noqa: PLR2004 - a box header
            raise DamagedError("it has a box that is none")
        yield data[place + 4 : place + 8], place, place + size
        place += size


def _item(meta: bytes, start: int, end: int) -> int | None:
    """The number of the item that is XMP."""
    wide = meta[start + 8] != 0
    for name, at, stop in _boxes(meta, start + _FULL + (4 if wide else 2), end):
        if name == b"infe" and meta[at + 8 : at + 9] in {b"\x02", b"\x03"}:
            width = 4 if meta[at + 8] == 3 else 2  # noqa: PLR2004 - the version
            rest = meta[at + _FULL + width + 2 : stop]
            if rest.startswith(b"mime") and _CONTENT_TYPE in rest:
                return int.from_bytes(meta[at + _FULL : at + _FULL + width])
    return None


class _Locations:
    """The box that says where items are."""

    def __init__(self, meta: bytes, start: int, file_place: int) -> None:
        self._meta = meta
        self._file_place = file_place
        self._version = meta[start + 8]
        self._widths = [meta[start + _FULL] >> 4, meta[start + _FULL] & 15, meta[start + _FULL + 1] >> 4]
        self._index_width = meta[start + _FULL + 1] & 15 if self._version else 0
        self._at = start + _FULL + 2

    def extent(self, wanted: int) -> Extent | None:
        number = 4 if self._version == 2 else 2  # noqa: PLR2004 - the version
        for _ in range(self._take(number)):
            item = self._take(number)
            method = self._take(2) & 15 if self._version else 0
            self._at += 2
            base = self._take(self._widths[2])
            count = self._take(2)
            if item == wanted and (method or count != 1 or base or 0 in self._widths[:2]):
                return None
            for _ in range(count):
                self._at += self._index_width
                found = self._one()
                if item == wanted:
                    return found
        return None

    def _one(self) -> Extent:
        offset_at = self._file_place + self._at
        offset = self._take(self._widths[0])
        length_at = self._file_place + self._at
        length = self._take(self._widths[1])
        return Extent(offset, length, offset_at, length_at, self._widths[0], self._widths[1])

    def _take(self, width: int) -> int:
        if self._at + width > len(self._meta):
            raise DamagedError("its list of items is incomplete")
        self._at += width
        return int.from_bytes(self._meta[self._at - width : self._at])
