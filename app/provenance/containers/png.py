"""PNG: an `iTXt` chunk right behind the header; C2PA in `caBX`.

A packet that is compressed is written again with our properties, and what it was stands behind it in a chunk of its own
(`flXm`, ancillary and private): no compression could be undone otherwise.
Source: PNG specification (third edition), section 11; XMP specification part 3
"""

import zlib
from collections.abc import Generator
from typing import Final

from app.provenance import xmp
from app.provenance.containers.chunks import swapped, u32
from app.provenance.errors import DamagedError, NoRoomError
from app.provenance.window import C2pa, Edit, Part, Slot, Walk, Window, Xmp

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_KEYWORD: Final = b"XML:com.adobe.xmp\x00"
_KEPT: Final = b"flXm"
_HEADER_END: Final = 33
_LARGEST_CHUNK: Final = 0x7FFF_FFFF
_FRAME: Final = 12
"""Bytes of a chunk besides its data: length, name and check sum."""


def walk(window: Window) -> Walk:
    """See the module."""
    start = yield from window.at(0, _HEADER_END)
    if start[8:16] != b"\x00\x00\x00\x0dIHDR":
        raise DamagedError("it does not begin with a PNG header")
    yield Slot(_HEADER_END, lambda packet: [Edit(_HEADER_END, 0, _chunk(b"iTXt", _KEYWORD + bytes(4) + packet))])
    place, name = _HEADER_END, b""
    while name != b"IEND":
        head = yield from window.at(place, 8)
        length, name = u32(head), head[4:]
        if length > _LARGEST_CHUNK or not name.isalpha():
            raise DamagedError("it has a chunk that is none")
        if name == b"caBX":
            yield C2pa(place)
        if name == b"iTXt" and length > len(_KEYWORD):
            part = yield from _xmp(window, place, length)
            if part is not None:
                yield part
        place += _FRAME + length
        window.release(place)
    yield from window.at(place - 4, 4)


def _xmp(window: Window, place: int, length: int) -> Generator[None, None, Part | None]:
    begin = yield from window.at(place + 8, len(_KEYWORD))
    if begin != _KEYWORD:
        return None
    if length > xmp.LARGEST:
        raise DamagedError(f"its XMP has more than {xmp.LARGEST} bytes")
    whole = yield from window.at(place, _FRAME + length)
    body = whole[8:-4]
    if u32(whole, 8 + length) != zlib.crc32(whole[4:-4]):
        raise DamagedError("the check sum of its XMP is wrong")
    fields = body[len(_KEYWORD) + 2 :].split(b"\x00", 2)
    if len(fields) != 3:  # noqa: PLR2004 - language, translated keyword, text
        raise DamagedError("its XMP is incomplete")
    prefix, text = body[: len(body) - len(fields[2])], fields[2]
    if body[len(_KEYWORD)] == 0:
        return Xmp(
            place,
            text,
            resize=lambda data: swapped(place, whole, _chunk(b"iTXt", prefix + data)),
            delete=lambda _: [Edit(place, len(whole), b"")],
        )
    return (yield from _compressed(window, place, whole, prefix))


def _compressed(window: Window, place: int, whole: bytes, prefix: bytes) -> Generator[None, None, Part]:
    body = whole[8:-4]
    inflating = zlib.decompressobj()
    try:
        data = inflating.decompress(body[len(prefix) :], xmp.LARGEST + 1)
    except zlib.error as error:
        raise DamagedError("its XMP cannot be decompressed") from error
    if len(data) > xmp.LARGEST or not inflating.eof:
        raise DamagedError(f"its XMP is incomplete or has more than {xmp.LARGEST} bytes")
    behind = place + len(whole)
    head = yield from window.at(behind, 8)
    kept = b""
    if head[4:] == _KEPT and u32(head) <= xmp.LARGEST:
        kept = yield from window.at(behind + 8, u32(head))

    def resize(data: bytes) -> list[Edit]:
        if kept:
            raise NoRoomError("its XMP was completed before, and changed since")
        again = _chunk(b"iTXt", prefix + zlib.compress(data, 9))
        return [Edit(place, len(whole), again + _chunk(_KEPT, body))]

    def undo(_: str) -> list[Edit]:
        if not kept:
            raise NoRoomError("what its XMP was is gone")
        return [Edit(place, len(whole) + _FRAME + len(kept), _chunk(b"iTXt", kept))]

    return Xmp(place, data, resize=resize, delete=lambda _: [Edit(place, len(whole), b"")], undo=undo)


def _chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)
