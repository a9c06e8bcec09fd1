"""The size of a HEIC or AVIF picture as it is displayed: cropped, then rotated, as its properties say.

Source: ISO/IEC 23008-12, sections 6.5.3 (`ispe`), 6.5.9 (`clap`) and 6.5.10 (`irot`); ISO/IEC 14496-12, sections 8.11.4
(`pitm`) and 8.11.14 (`iprp`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from app.core.file_types.bmff import boxes

_FULL: Final = 4
"""Bytes of version and flags at the beginning of a box's content."""
_CLAP_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class PictureSize:
    """Both sizes, in pixels."""

    coded: tuple[int, int]
    """As the decoder yields it: width, height."""
    displayed: tuple[int, int]
    is_tiled: bool
    """Whether it is put together from smaller pictures."""


def read(head: bytes) -> PictureSize | None:
    """The size of the main picture; None: the beginning does not say it for certain."""
    meta = next(((start, end) for name, start, end in boxes(head) if name == b"meta"), None)
    if meta is None or meta[1] > len(head):
        return None
    data = head[meta[0] + _FULL : meta[1]]
    parts = {name: data[start:end] for name, start, end in boxes(data)}
    item = _number(parts.get(b"pitm", b""))
    properties = dict(_boxes_of(parts.get(b"iprp", b"")))
    if item is None or b"ipco" not in properties:
        return None
    all_of_them = list(_boxes_of(properties[b"ipco"]))
    numbers = _associated(properties.get(b"ipma", b""), item)
    if not numbers or max(numbers) > len(all_of_them):
        return None
    return _displayed([all_of_them[number - 1] for number in numbers if number], _type_of(parts, item) == b"grid")


def _boxes_of(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    for name, start, end in boxes(data):
        yield name, data[start:end]


def _number(pitm: bytes) -> int | None:
    width = 2 if pitm[:1] == b"\x00" else 4
    return int.from_bytes(pitm[_FULL : _FULL + width]) if len(pitm) >= _FULL + width else None


def _type_of(parts: dict[bytes, bytes], item: int) -> bytes:
    listed = parts.get(b"iinf", b"")
    for name, entry in _boxes_of(listed[_FULL + (2 if listed[:1] == b"\x00" else 4) :]):
        width = 4 if entry[:1] == b"\x03" else 2
        if name == b"infe" and int.from_bytes(entry[_FULL : _FULL + width]) == item:
            return entry[_FULL + width + 2 : _FULL + width + 6]
    return b""


def _associated(ipma: bytes, item: int) -> list[int]:
    """The numbers of the properties of an item, counted from 1, in the order in which they are applied."""
    if len(ipma) < _FULL + 4:
        return []
    id_width = 2 if ipma[0] == 0 else 4
    width = 2 if ipma[3] & 1 else 1
    place = _FULL + 4
    for _ in range(int.from_bytes(ipma[_FULL : _FULL + 4])):
        if place + id_width >= len(ipma):
            return []
        found = int.from_bytes(ipma[place : place + id_width])
        count = ipma[place + id_width]
        place += id_width + 1
        if found == item:
            listed = ipma[place : place + count * width]
            numbers = [int.from_bytes(listed[at : at + width]) for at in range(0, len(listed), width)]
            return [number & (0x7FFF if width == 2 else 0x7F) for number in numbers]  # noqa: PLR2004 - bytes
        place += count * width
    return []


def _displayed(properties: list[tuple[bytes, bytes]], is_tiled: bool) -> PictureSize | None:  # noqa: FBT001 - internal
    sizes = [data for name, data in properties if name == b"ispe" and len(data) >= _FULL + 8]
    if len(sizes) != 1:
        return None
    coded = int.from_bytes(sizes[0][_FULL : _FULL + 4]), int.from_bytes(sizes[0][_FULL + 4 : _FULL + 8])
    width, height = coded
    for name, data in properties:
        if name == b"clap":
            cropped = _cropped(data)
            if cropped is None or cropped[0] > width or cropped[1] > height:
                return None
            width, height = cropped
        elif name == b"irot" and data[:1] and data[0] & 1:
            width, height = height, width
    return PictureSize(coded, (width, height), is_tiled) if min(coded) > 0 else None


def _cropped(clap: bytes) -> tuple[int, int] | None:
    """Width and height that are left of a picture; None: they are no whole numbers."""
    if len(clap) < _CLAP_BYTES:
        return None
    over, under, over_height, under_height = (int.from_bytes(clap[at : at + 4]) for at in (0, 4, 8, 12))
    if not (over and under and over_height and under_height) or over % under or over_height % under_height:
        return None
    return over // under, over_height // under_height
