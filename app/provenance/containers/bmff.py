"""ISO base media files (MP4, MOV, M4A, AVIF, HEIC): a `uuid` box at the end; C2PA in one of its own.

Nothing is inserted before media data, because tables of other boxes hold offsets from the file's beginning. `mfra`
stays last: it is found from the end. A file whose last box has no size has no place: it takes whatever follows.
Source: ISO/IEC 14496-12, sections 4.2, 8.8.9; XMP specification part 3; C2PA specification, annex A.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

from app.provenance import xmp
from app.provenance.containers.chunks import noted, u32
from app.provenance.containers.heif import Extent, xmp_extent
from app.provenance.errors import DamagedError, NoRoomError
from app.provenance.window import C2pa, Edit, Hold, Slot, Walk, Window, Xmp

XMP_UUID: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
C2PA_UUID: Final = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_MEDIA: Final = frozenset({b"mdat", b"moof", b"moov", b"meta", b"idat", b"sidx"})
_HEADER: Final = 8
_UUID_HEADER: Final = 24
_LARGE_HEADER: Final = 16
_LARGEST_DESCRIPTION: Final = 512 * 1024
"""Bytes of a `moov` or `meta` box that are searched for XMP of its own."""


@dataclass(frozen=True, slots=True)
class _Box:
    place: int
    size: int
    name: bytes
    header: int
    """Bytes of the header."""

    @property
    def end(self) -> int:
        return self.place + self.size


@dataclass(slots=True)
class _State:
    has_xmp: bool = False
    behind_xmp: bool = False
    """Whether media data follows the packet."""
    described: bool = False
    """Whether a box says what is in the file."""
    item: Extent | None = None
    """The XMP of a picture."""
    size: int = 0
    """Of the whole file; 0: not known yet."""


def is_bmff(head: bytes) -> bool:
    """Whether a file begins as one."""
    return head[4:8] in {b"ftyp", b"moov", b"wide", b"styp"} or (
        head[4:8] in {b"mdat", b"free"} and u32(head) in {0, 1, 8}
    )


def walk(window: Window) -> Walk:
    """See the module."""
    state = _State()
    place = slot = 0
    while (yield from window.some(place, 1)):
        box = yield from _box(window, place)
        for part in _parts(window, box, state):
            state.has_xmp = state.has_xmp or isinstance(part, Xmp)
            yield part
        slot = place if box.name == b"mfra" else box.end
        place = box.end
        window.release(slot)
    if not state.described or (yield from window.size()) != place:
        raise DamagedError("it is cut off, or has no description of what is in it")
    state.size = place
    yield Slot(slot, lambda packet: [Edit(slot, 0, _boxed(packet))])


def _parts(window: Window, box: _Box, state: _State) -> Walk:
    """What a box has of interest."""
    state.behind_xmp = state.behind_xmp or (state.has_xmp and box.name in _MEDIA)
    state.described = state.described or box.name in {b"moov", b"meta"}
    if box.name == b"uuid":
        yield from _uuid(window, box, state)
    elif box.name == b"moov":
        yield from _check_movie(window, box)
    elif box.name == b"meta" and box.size <= _LARGEST_DESCRIPTION:
        state.item = xmp_extent((yield from window.at(box.place, box.size)), box.place)
        if state.item is not None:
            yield Hold(state.item.offset_at)
    elif box.name == b"mdat" and state.item is not None and box.place < state.item.offset < box.end:
        yield (yield from _item(window, state.item, state))


def _box(window: Window, place: int) -> Generator[None, None, _Box]:
    head = yield from window.at(place, _HEADER)
    size, name, header = u32(head), head[4:], _HEADER
    if size == 1:
        size = int.from_bytes((yield from window.at(place + _HEADER, 8)))
        header = _LARGE_HEADER
    if size == 0:
        raise DamagedError("its last box has no size")
    if size < header:
        raise DamagedError("it has a box that is none")
    return _Box(place, size, name, header)


def _uuid(window: Window, box: _Box, state: _State) -> Walk:
    place, size, header = box.place, box.size, box.header
    if size < header + 16:
        raise DamagedError("it has a box that is none")
    kind = yield from window.at(place + header, 16)
    if kind == C2PA_UUID:
        yield C2pa(place)
    if kind != XMP_UUID:
        return
    if size > xmp.LARGEST:
        raise DamagedError(f"its XMP has more than {xmp.LARGEST} bytes")
    whole = yield from window.at(place, size)
    data = whole[header + 16 :]

    def resize(new: bytes) -> list[Edit]:
        if state.behind_xmp or not state.size:
            raise NoRoomError("its XMP stands before media data that would be moved")
        if header != _HEADER:
            raise NoRoomError("its XMP has an unusual size")
        return [Edit(place, size, _boxed(new))]

    yield Xmp(place, data, resize, lambda _: [Edit(place, size, b"")])


def _item(window: Window, item: Extent, state: _State) -> Generator[None, None, Xmp]:
    """A picture's XMP; longer, it is appended, and the list of items names that place."""
    if item.length > xmp.LARGEST:
        raise DamagedError(f"its XMP has more than {xmp.LARGEST} bytes")
    window.release(item.offset)
    data = yield from window.at(item.offset, item.length)

    def moved(offset: int, length: int) -> list[Edit]:
        if offset >= 1 << (8 * item.offset_width) or length >= 1 << (8 * item.length_width):
            raise NoRoomError("its list of items cannot name that place")
        return [
            Edit(item.offset_at, item.offset_width, offset.to_bytes(item.offset_width)),
            Edit(item.length_at, item.length_width, length.to_bytes(item.length_width)),
        ]

    def resize(new: bytes) -> list[Edit]:
        if not state.size:
            raise NoRoomError("its end is too far behind")
        box = (_HEADER + len(new)).to_bytes(4) + b"mdat" + new
        return [*moved(state.size + _HEADER, len(new)), Edit(state.size, 0, box)]

    def undo(restore: str) -> list[Edit]:
        offset, length = noted(restore, "item", 2)
        if item.offset + item.length != window.total:
            raise NoRoomError("something was appended behind the mark")
        return [*moved(offset, length), Edit(item.offset - _HEADER, _HEADER + item.length, b"")]

    return Xmp(item.offset_at, data, resize, _kept, f"item:{item.offset},{item.length}", undo)


def _check_movie(window: Window, box: _Box) -> Walk:
    """Look for metadata within the description: XMP of QuickTime's kind, which cannot grow, and C2PA."""
    if box.size > _LARGEST_DESCRIPTION:
        return
    data = yield from window.at(box.place, box.size)
    start = data.find(b"<?xpacket begin") if b"XMP_" in data else -1
    end = data.find(b"<?xpacket end", start)
    if 0 <= start < end:
        yield Xmp(box.place, data[start : data.find(b">", end) + 1], _fixed, _kept)


def _fixed(_: bytes) -> list[Edit]:
    raise NoRoomError("its XMP stands within the description of the media, which must not move")


def _kept(_: str) -> list[Edit]:
    return []


def _boxed(packet: bytes) -> bytes:
    return (_UUID_HEADER + len(packet)).to_bytes(4) + b"uuid" + XMP_UUID + packet
