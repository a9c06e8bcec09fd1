"""MP3: a `PRIV` frame of the owner `XMP` in an ID3v2 tag; C2PA in a `GEOB` frame.

Frames are inserted at the beginning of the tag. A file without a tag gets one (ID3v2.3), which the mark notes.
Source: ID3v2.4.0, sections 3.1, 4.27; XMP specification part 3
"""

from collections.abc import Generator
from typing import Final

from app.provenance import xmp
from app.provenance.containers.chunks import u32
from app.provenance.errors import DamagedError, NoRoomError
from app.provenance.window import C2pa, Edit, Hold, Slot, Walk, Window, Xmp

SIGNATURE: Final = b"ID3"
_HEADER: Final = 10
_OWNER: Final = b"XMP\x00"
_ADDED: Final = "ID3"
_VERSIONS: Final = (3, 4)
_LARGEST: Final = 0x0FFF_FFFF


def is_mp3(head: bytes) -> bool:
    """Whether a file without a tag begins with a frame of MPEG audio, layer III."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:  # noqa: PLR2004 - the header's sync word
        return False
    layer_three = head[1] >> 1 & 3 == 1
    return layer_three and head[1] >> 3 & 3 != 1 and head[2] >> 4 not in {0, 15} and head[2] >> 2 & 3 != 3  # noqa: PLR2004


def walk(window: Window) -> Walk:
    """See the module."""
    yield Hold(0)
    head = yield from window.at(0, _HEADER)
    if not head.startswith(SIGNATURE):
        yield Slot(0, lambda packet: [Edit(0, 0, _tag(_frame(packet, 3)))], _ADDED)
        return
    version, flags, size = head[3], head[5], _unsafe(head[6:])
    if version not in _VERSIONS or flags or size is None:
        raise DamagedError("its tag is of a kind that is not changed")
    yield Slot(6, lambda packet: [_sized(size, _HEADER + 4 + len(packet)), Edit(10, 0, _frame(packet, version))])
    place, end = _HEADER, _HEADER + size
    while place + _HEADER <= end:
        frame = yield from window.at(place, _HEADER)
        if frame[:4] == bytes(4):
            break
        length = u32(frame, 4) if version == 3 else _unsafe(frame[4:8])  # noqa: PLR2004 - ID3v2.3
        if length is None or not frame[:4].isalnum() or place + _HEADER + length > end:
            raise DamagedError("its tag has a frame that is none")
        data = yield from _frame_of_interest(window, place, frame, length)
        if frame[:4] == b"GEOB" and b"c2pa" in data[:64]:
            yield C2pa(place)
        if frame[:4] == b"PRIV" and data:
            yield _xmp(place, data[len(_OWNER) :], version, size)
        place += _HEADER + length
        window.release(place)
    yield from window.at(end - 1, 1)


def _frame_of_interest(window: Window, place: int, frame: bytes, length: int) -> Generator[None, None, bytes]:
    """XMP, or the beginning of an object; empty: anything else."""
    if frame[:4] not in {b"GEOB", b"PRIV"}:
        return b""
    begin = yield from window.at(place + _HEADER, min(length, 64))
    if frame[:4] == b"GEOB":
        return begin
    if not begin.startswith(_OWNER):
        return b""
    if length > xmp.LARGEST or frame[8:] != b"\x00\x00":
        raise DamagedError("its XMP is too large, or compressed")
    return (yield from window.at(place + _HEADER, length))


def _xmp(place: int, data: bytes, version: int, size: int) -> Xmp:
    whole = _HEADER + len(_OWNER) + len(data)

    def resize(new: bytes) -> list[Edit]:
        return [_sized(size, len(new) - len(data)), Edit(place, whole, _frame(new, version))]

    def delete(restore: str) -> list[Edit]:
        if restore == _ADDED and size == whole:
            return [Edit(0, _HEADER + whole, b"")]
        return [_sized(size, -whole), Edit(place, whole, b"")]

    return Xmp(place, data, resize, delete)


def _sized(size: int, count: int) -> Edit:
    if size + count > _LARGEST:
        raise NoRoomError("its tag is as large as its format allows")
    return Edit(6, 4, _safe(size + count))


def _tag(frames: bytes) -> bytes:
    return SIGNATURE + b"\x03\x00\x00" + _safe(len(frames)) + frames


def _frame(packet: bytes, version: int) -> bytes:
    length = len(_OWNER) + len(packet)
    size = length.to_bytes(4) if version == 3 else _safe(length)  # noqa: PLR2004 - ID3v2.3
    return b"PRIV" + size + bytes(2) + _OWNER + packet


def _safe(value: int) -> bytes:
    """Seven bits in each byte."""
    return bytes(value >> shift & 0x7F for shift in (21, 14, 7, 0))


def _unsafe(data: bytes) -> int | None:
    if max(data) > 0x7F:  # noqa: PLR2004 - seven bits
        return None
    return data[0] << 21 | data[1] << 14 | data[2] << 7 | data[3]
