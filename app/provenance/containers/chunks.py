"""What several formats share: integers, small edits, and what a mark notes."""

from typing import Final

from app.provenance.errors import NoRoomError
from app.provenance.window import Edit

SMALLEST_MANIFEST: Final = 1024
"""Bytes; a C2PA manifest store with its certificates never has less."""


def u16(data: bytes, start: int = 0) -> int:
    """Two bytes, most significant first."""
    return int.from_bytes(data[start : start + 2])


def u32(data: bytes, start: int = 0) -> int:
    """Four bytes, most significant first."""
    return int.from_bytes(data[start : start + 4])


def swapped(start: int, old: bytes, new: bytes) -> list[Edit]:
    """Replace bytes by others, leaving alone what both begin and end with."""
    if old == new:
        return []
    begin = 0
    while begin < min(len(old), len(new)) and old[begin] == new[begin]:
        begin += 1
    end = 0
    while end < min(len(old), len(new)) - begin and old[-1 - end] == new[-1 - end]:
        end += 1
    return [Edit(start + begin, len(old) - begin - end, new[begin : len(new) - end])]


def noted(restore: str, kind: str, count: int) -> list[int]:
    """The numbers that a mark notes for its removal, such as `ifd:8,1234`.

    Raises:
        NoRoomError: It does not.
    """
    name, _, rest = restore.partition(":")
    numbers = [int(part) for part in rest.split(",") if part.isdecimal()]
    if name != kind or len(numbers) != count:
        raise NoRoomError("the mark does not tell how it was before")
    return numbers
