"""The size of a TIFF or BigTIFF whose directory is near its beginning; where it stands at the end, a decoder says it.

Source: TIFF 6.0, section 2; BigTIFF as in libtiff.
"""

from collections.abc import Iterator
from typing import Final, Literal

_WIDTH, _HEIGHT, _ORIENTATION = 256, 257, 274
_REDUCED, _MORE_INSIDE = 254, 330
"""Tags of a preview, and of a picture whose full size is in a directory of its own, as raw files of cameras have it."""
_BYTES: Final = {3: 2, 4: 4, 16: 8}
"""Of whole numbers, by their type."""
_ROTATED: Final = range(5, 9)
"""Orientations that swap width and height."""


def size(head: bytes) -> tuple[int, int] | None:
    """Width and height as displayed; None: the beginning does not say them for certain."""
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    tags = dict(_tags(head, order))
    if tags.get(_REDUCED, 0) & 1 or _MORE_INSIDE in tags or not tags.get(_WIDTH) or not tags.get(_HEIGHT):
        return None
    width, height = tags[_WIDTH], tags[_HEIGHT]
    return (height, width) if tags.get(_ORIENTATION) in _ROTATED else (width, height)


def _tags(head: bytes, order: Literal["little", "big"]) -> Iterator[tuple[int, int]]:
    """The tags of the first directory with their numbers, 0 for other values; none if it is not all in the head."""

    def number(place: int, width: int) -> int:
        return int.from_bytes(head[place : place + width], order)

    big = number(2, 2) == 43  # noqa: PLR2004 - the version of BigTIFF
    wide, entry, count_width = (8, 20, 8) if big else (4, 12, 2)
    place = number(8 if big else 4, wide)
    count = number(place, count_width)
    place += count_width
    if not 0 < count < 4_096 or place + count * entry > len(head):  # noqa: PLR2004 - a directory
        return
    for at in range(place, place + count * entry, entry):
        single = number(at + 4, wide) == 1
        yield number(at, 2), number(at + 4 + wide, _BYTES.get(number(at + 2, 2), 0)) if single else 0
