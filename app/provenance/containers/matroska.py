"""Matroska and WebM: one more `Tags` element at the end of the segment, with a tag `XMP`.

Everything else keeps its place, because `SeekHead` and `Cues` count from the segment's beginning. If the segment has
a size, it is corrected at the beginning; if `SeekHead` is followed by unused bytes (`Void`), the tags are entered
there, so that readers find them without reading everything. The mark notes what these bytes were.
Source: RFC 8794, section 4; RFC 9559, sections 5 and 6.
"""

import zlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

from app.provenance.errors import DamagedError, NoRoomError
from app.provenance.mark import find_written
from app.provenance.window import AT_END, Edit, Hold, Slot, Walk, Window, Xmp

SIGNATURE: Final = b"\x1a\x45\xdf\xa3"
_SEGMENT, _SEEK_HEAD, _TAGS = 0x1853_8067, 0x114D_9B74, 0x1254_C367
_CLUSTER, _VOID, _CRC = 0x1F43_B675, 0xEC, 0xBF
_LONGEST_HEADER: Final = 12
_LARGEST_SEEK_HEAD: Final = 400
_ENTRY: Final = 21
_OUR_ENTRY: Final = bytes.fromhex("4dbb9253ab841254c36753ac88")
"""An entry for tags, up to their position."""
_WIDEST: Final = 8
_LARGEST_TAGS: Final = 16 * 1024
_TAIL: Final = 8 * 1024


@dataclass(frozen=True, slots=True)
class _Element:
    place: int
    identity: int
    header: int
    """Bytes of identity and size."""
    width: int
    """Bytes of the size."""
    size: int | None
    """None: unknown."""

    @property
    def body(self) -> int:
        return self.place + self.header

    @property
    def end(self) -> int:
        return self.body + (self.size or 0)


def walk(window: Window) -> Walk:
    """See the module."""
    yield Hold(0)
    header = yield from _element(window, 0)
    if header.size is None or header.size > _LARGEST_TAGS:
        raise DamagedError("its header has no size")
    segment = yield from _element(window, header.end)
    if segment.identity != _SEGMENT:
        raise DamagedError("it does not begin with a segment")
    found = False
    try:
        for part in _parts(window, segment):
            found = found or isinstance(part, Xmp)
            yield part
    except DamagedError:
        if not found:
            yield from _last(window, segment)
        raise
    if not found:
        yield from _last(window, segment)


def _parts(window: Window, segment: _Element) -> Walk:
    """The children of the segment that are of interest."""
    place, seek = segment.body, b""
    slot: Slot | None = None
    while (yield from _has_more(window, segment, place)):
        element = yield from _child(window, segment, place)
        if element.identity == _SEEK_HEAD and place == segment.body:
            seek = yield from _seek_head(window, element)
        elif element.identity == _TAGS and element.size is not None and element.size <= _LARGEST_TAGS:
            data = yield from window.at(place, element.header + element.size)
            yield from _own(segment, place, data)
        elif element.identity == _CLUSTER and slot is None:
            slot = _slot(segment, seek)
            if not _names_a_mark(seek, segment):
                yield slot
        place = _behind(element)
        window.release(place)
    if slot is None:
        raise DamagedError("it has no cluster")
    if segment.size is not None:
        yield from window.at(segment.end - 1, 1)
    yield slot


def _child(window: Window, segment: _Element, place: int) -> Generator[None, None, _Element]:
    element = yield from _element(window, place)
    if segment.size is not None and element.end > segment.end:
        raise DamagedError("it has an element that ends behind its end")
    return element


def _has_more(window: Window, segment: _Element, place: int) -> Generator[None, None, bool]:
    if segment.size is not None:
        return place < segment.end
    return bool((yield from window.some(place, 1)))


def _behind(element: _Element) -> int:
    """Where the next element is; the children of a cluster without a size are looked at as if they were neighbours."""
    if element.size is not None:
        return element.end
    if element.identity != _CLUSTER:
        raise DamagedError("it has an element without a size")
    return element.body


def _element(window: Window, place: int) -> Generator[None, None, _Element]:
    data = yield from window.some(place, _LONGEST_HEADER)
    if len(data) < _LONGEST_HEADER:
        # Fewer may be all there are, or all that have come yet.
        one = yield from window.at(place, 1)
        width = _width(one[0], 4)
        two = yield from window.at(place, width + 1)
        data = yield from window.at(place, width + _width(two[width], _WIDEST))
    width = _width(data[0], 4)
    more = _width(data[width], _WIDEST)
    size = int.from_bytes(data[width : width + more]) & ((1 << (7 * more)) - 1)
    unknown = size == (1 << (7 * more)) - 1
    return _Element(place, int.from_bytes(data[:width]), width + more, more, None if unknown else size)


def _width(first: int, most: int) -> int:
    width = 9 - first.bit_length()
    if width > most:
        raise DamagedError("it has an element that is none")
    return width


def _size(value: int, width: int) -> bytes | None:
    """As many bytes that say a size; None: it does not fit."""
    return (value | 1 << (7 * width)).to_bytes(width) if value < (1 << (7 * width)) - 1 else None


def _sized(identity: int, body: bytes, width: int = 2) -> bytes:
    size = _size(len(body), width)
    if size is None:
        raise NoRoomError("the mark is too long")
    return identity.to_bytes((identity.bit_length() + 7) // 8) + size + body


def _tags(packet: bytes) -> bytes:
    simple = _sized(0x45A3, b"XMP", 1) + _sized(0x4487, packet)
    return _sized(_TAGS, _sized(0x7373, _sized(0x63C0, b"", 1) + _sized(0x67C8, simple)))


def _seek_head(window: Window, element: _Element) -> Generator[None, None, bytes]:
    """It and the unused bytes behind it, as far as an entry needs them; only it if there are too few."""
    if element.size is None or element.size > _LARGEST_SEEK_HEAD:
        return b""
    void = yield from _element(window, element.end)
    total = void.end - void.place
    after = min(total, _ENTRY + 1 + _WIDEST)
    if void.identity != _VOID or void.size is None or (total != _ENTRY and total < _ENTRY + 2):
        after = 0
    return (yield from window.at(element.place, element.end - element.place + after))


def _names_a_mark(seek: bytes, segment: _Element) -> bool:
    """Whether an entry as we write it names tags at the end, which are not to be seen yet."""
    at = seek.find(_OUR_ENTRY)
    if at < 0 or segment.size is None:
        return False
    position = int.from_bytes(seek[at + len(_OUR_ENTRY) : at + _ENTRY])
    return 0 < segment.size - position <= _LARGEST_TAGS


def _entered(old: bytes, position: int, total: int) -> bytes | None:
    """The same bytes with an entry for tags at this position of the segment; None: it does not fit."""
    width = _width(old[4], _WIDEST)
    content_size = int.from_bytes(old[4 : 4 + width]) & ((1 << (7 * width)) - 1)
    content = old[4 + width : 4 + width + content_size]
    entry = _sized(0x4DBB, _sized(0x53AB, _TAGS.to_bytes(4), 1) + _sized(0x53AC, position.to_bytes(8), 1), 1)
    size = _size(content_size + len(entry), width)
    if size is None:
        return None
    content += entry
    if content[:2] == b"\xbf\x84":
        if old[4 + width + 2 : 4 + width + 6] != _crc(content[6:-_ENTRY]):
            return None
        content = content[:2] + _crc(content[6:]) + content[6:]
    left = total - _ENTRY
    void = b""
    if left > _WIDEST:
        void = b"\xec" + (_size(left - 1 - _WIDEST, _WIDEST) or b"")
    elif left:
        void = b"\xec" + (_size(left - 2, 1) or b"")
    new = old[:4] + size + content + void
    return new + old[len(new) :]


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def _slot(segment: _Element, seek: bytes) -> Slot:
    size_at = segment.body - segment.width
    if segment.size is None:
        return Slot(0, lambda packet: [Edit(AT_END, 0, _tags(packet))], "end")
    size = segment.size
    total = _void_total(seek)
    entered = _entered(seek, size, total) if total else None
    old_size = (_size(size, segment.width) or b"").hex()
    restore = f"mkv:{old_size},{seek.hex() if entered else ''}"

    def insert(packet: bytes) -> list[Edit]:
        tags = _tags(packet)
        new = _size(size + len(tags), segment.width) or _size(size + len(tags), _WIDEST)
        if new is None:
            raise NoRoomError("it is as large as its format allows")
        edits = [Edit(size_at, segment.width, new), Edit(segment.end, 0, tags)]
        return [*edits, Edit(segment.body, len(seek), entered)] if entered else edits

    return Slot(0, insert, restore)


def _void_total(seek: bytes) -> int:
    """Of the unused bytes behind the list of entries: their header says it; 0: there are too few."""
    width = _width(seek[4], _WIDEST) if seek else 0
    at = 4 + width + (int.from_bytes(seek[4 : 4 + width]) & ((1 << (7 * width)) - 1))
    if len(seek) <= at:
        return 0
    more = _width(seek[at + 1], _WIDEST)
    return 1 + more + (int.from_bytes(seek[at + 1 : at + 1 + more]) & ((1 << (7 * more)) - 1))


def _own(segment: _Element, place: int, data: bytes) -> Walk:
    """Tags of ours, byte for byte as they are written."""
    start = data.find(b"<?xpacket")
    packet = data[start:]
    if start < 0 or find_written(packet) is None or data != _tags(packet):
        return

    def delete(restore: str) -> list[Edit]:
        kind, _, rest = restore.partition(":")
        edits = [Edit(place, len(data), b"")]
        if kind == "mkv":
            size, _, seek = rest.partition(",")
            edits.append(Edit(segment.body - segment.width, segment.width, bytes.fromhex(size)))
            if seek:
                edits.append(Edit(segment.body, len(seek) // 2, bytes.fromhex(seek)))
        return edits

    yield Xmp(0, packet, _refuse, delete)


def _refuse(_: bytes) -> list[Edit]:
    raise NoRoomError("its XMP is a tag that is not changed")


def _last(window: Window, segment: _Element) -> Walk:
    """Tags of ours where the file ends, or where it says that it ends."""
    if window.total is None:
        return
    end = window.total if segment.size is None else min(window.total, segment.end)
    begin = max(end - _TAIL, 0)
    tail = yield from window.at(begin, end - begin)
    at = tail.rfind(_TAGS.to_bytes(4))
    if at >= 0:
        yield from _own(segment, begin + at, tail[at:])
