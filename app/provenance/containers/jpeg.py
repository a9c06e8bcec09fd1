"""JPEG: an APP1 segment behind those of JFIF and Exif; C2PA in APP11.

Source: ITU-T T.81, section B.1; XMP specification part 3; CIPA DC-007 (pictures that follow the first one are found by
their distance from its APP2 segment, so nothing may be inserted behind that).
"""

from collections.abc import Generator
from typing import Final

from app.provenance.containers.chunks import swapped, u16
from app.provenance.errors import DamagedError, NoRoomError
from app.provenance.window import C2pa, Edit, Hold, Slot, Walk, Window, Xmp

SIGNATURE: Final = b"\xff\xd8\xff"
_XMP: Final = b"http://ns.adobe.com/xap/1.0/\x00"
_EXTENDED: Final = b"http://ns.adobe.com/xmp/extension/\x00"
_APP0, _APP1, _APP2, _APP11 = 0xE0, 0xE1, 0xE2, 0xEB
_SOS, _EOI = 0xDA, 0xD9
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length."""
_LONGEST: Final = 0xFFFF


def walk(window: Window) -> Walk:
    """See the module."""
    yield Hold(2)
    place, slot, leading, indexed = 2, 2, True, False
    while True:
        marker, place = yield from _marker(window, place)
        if marker in {_SOS, _EOI}:
            break
        if marker in _ALONE:
            raise DamagedError("it has a marker where none belongs")
        length = u16((yield from window.at(place + 2, 2)))
        segment = yield from window.at(place, 2 + length)
        if length < 2:  # noqa: PLR2004 - a length counts itself
            raise DamagedError("it has a segment that is none")
        if _has_c2pa(marker, segment):
            yield C2pa(place)
        indexed = indexed or (marker == _APP2 and segment[4:8] == b"MPF\x00")
        if marker == _APP1 and segment[4:].startswith(_XMP):
            yield _xmp(place, segment, indexed=indexed)
        if marker == _APP1 and segment[4:].startswith(_EXTENDED) and b"DigitalSourceType" in segment:
            yield _extended(place, segment)
        place += len(segment)
        window.release(place)
        leading = leading and (marker == _APP0 or (marker == _APP1 and segment[4:10] == b"Exif\x00\x00"))
        slot = place if leading else slot
    yield Slot(slot, lambda packet: [Edit(slot, 0, _segment(packet))])


def _marker(window: Window, place: int) -> Generator[None, None, tuple[int, int]]:
    """The next marker and where it begins; fill bytes may precede it."""
    while True:
        two = yield from window.at(place, 2)
        if two[0] != 0xFF or two[1] == 0:  # noqa: PLR2004 - what begins a marker
            raise DamagedError("it has something else where a marker belongs")
        if two[1] != 0xFF:  # noqa: PLR2004 - a fill byte
            return two[1], place
        place += 1


def _has_c2pa(marker: int, segment: bytes) -> bool:
    return marker == _APP11 and segment[4:6] == b"JP" and b"c2pa" in segment[:200]


def _xmp(place: int, segment: bytes, *, indexed: bool) -> Xmp:
    begin = 4 + len(_XMP)

    def resize(data: bytes) -> list[Edit]:
        if indexed and len(data) != len(segment) - begin:
            raise NoRoomError("its XMP stands behind an index of further pictures")
        return swapped(place, segment, _segment(data))

    return Xmp(place, segment[begin:], resize=resize, delete=lambda _: [Edit(place, len(segment), b"")])


def _extended(place: int, segment: bytes) -> Xmp:
    """A piece of XMP that was too long for one segment: not a document of its own."""

    def refuse(_: object) -> list[Edit]:
        raise NoRoomError("its XMP is split")

    return Xmp(place, segment[4 + len(_EXTENDED) + 40 :], resize=refuse, delete=refuse)


def _segment(packet: bytes) -> bytes:
    length = 2 + len(_XMP) + len(packet)
    if length > _LONGEST:
        raise NoRoomError("its XMP fills its segment")
    return b"\xff\xe1" + length.to_bytes(2) + _XMP + packet
