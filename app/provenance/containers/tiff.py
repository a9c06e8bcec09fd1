"""TIFF and BigTIFF: tag 700 in the first directory; C2PA in tag 52545 of any of them.

A directory cannot grow where it stands: a new one is appended, with the packet, and the header points to it. The
header comes first, so the whole file is held until then; what is larger than may be held is not marked. The mark notes
where the old directory is.
Source: TIFF 6.0, section 2; BigTIFF specification; XMP specification part 3
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, Literal

from app.provenance import xmp
from app.provenance.containers.chunks import noted
from app.provenance.errors import DamagedError, NoRoomError
from app.provenance.window import C2pa, Edit, Hold, Slot, Walk, Window, Xmp

SIGNATURES: Final = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_XMP_TAG, _C2PA_TAG = 700, 52545
_BYTE, _UNDEFINED = 1, 7
_MOST_ENTRIES: Final = 4096
_MOST_DIRECTORIES: Final = 1000


@dataclass(frozen=True, slots=True)
class _Layout:
    order: Literal["little", "big"]
    big: bool

    @property
    def word(self) -> int:
        """Bytes of an offset."""
        return 8 if self.big else 4

    @property
    def counter(self) -> int:
        """Bytes of the number of entries."""
        return 8 if self.big else 2

    @property
    def entry(self) -> int:
        """Bytes of an entry."""
        return 20 if self.big else 12

    @property
    def pointer(self) -> int:
        """Where the first directory's offset stands."""
        return 8 if self.big else 4

    def number(self, data: bytes) -> int:
        return int.from_bytes(data, self.order)

    def bytes_of(self, value: int, size: int) -> bytes:
        return value.to_bytes(size, self.order)


def walk(window: Window) -> Walk:
    """See the module."""
    yield Hold(4)
    head = yield from window.at(0, 8)
    layout = _Layout("little" if head[0] == 0x49 else "big", head[2] == 0x2B or head[3] == 0x2B)  # noqa: PLR2004 - I, +
    if layout.big and layout.number(head[4:6]) != layout.word:
        raise DamagedError("its offsets have an unusual size")
    directory = layout.number((yield from window.at(layout.pointer, layout.word)))
    size = yield from window.size()
    count = layout.number((yield from window.at(directory, layout.counter)))
    if directory < layout.pointer + layout.word or not 0 < count <= _MOST_ENTRIES:
        raise DamagedError("its directory is none")
    begin = directory + layout.counter
    body = yield from window.at(begin, count * layout.entry + layout.word)
    entries = [body[at : at + layout.entry] for at in range(0, count * layout.entry, layout.entry)]
    tags = [layout.number(entry[:2]) for entry in entries]
    if tags != sorted(set(tags)):
        raise DamagedError("its directory is not in order")
    following = body[count * layout.entry :]
    yield from _manifests(window, layout, tags, layout.number(following))
    if _XMP_TAG in tags:
        at = tags.index(_XMP_TAG)
        yield (yield from _xmp(window, layout, begin + at * layout.entry, entries[at]))
    else:
        yield Slot(4, _Directory(layout, entries, following, size).insert, f"ifd:{directory},{size}")


def _manifests(window: Window, layout: _Layout, tags: list[int], following: int) -> Walk:
    """The first directory may have a manifest, and each of those that follow it."""
    for _ in range(_MOST_DIRECTORIES):
        if _C2PA_TAG in tags:
            yield C2pa(layout.pointer)
        if not following:
            return
        count = layout.number((yield from window.at(following, layout.counter)))
        if not 0 < count <= _MOST_ENTRIES:
            raise DamagedError("it has a directory that is none")
        body = yield from window.at(following + layout.counter, count * layout.entry + layout.word)
        tags = [layout.number(body[at : at + 2]) for at in range(0, count * layout.entry, layout.entry)]
        following = layout.number(body[-layout.word :])
    raise DamagedError("it has more directories than are looked at")


@dataclass(frozen=True, slots=True)
class _Directory:
    """The first directory, to be written again behind everything."""

    layout: _Layout
    entries: list[bytes]
    following: bytes
    size: int
    """Of the file."""

    def insert(self, packet: bytes) -> list[Edit]:
        layout = self.layout
        start = self.size + self.size % 2
        count = len(self.entries) + 1
        data = start + layout.counter + count * layout.entry + layout.word
        if data + len(packet) >= 1 << (8 * layout.word):
            raise NoRoomError("it is as large as its format allows")
        added = b"".join(
            [
                layout.bytes_of(_XMP_TAG, 2),
                layout.bytes_of(_BYTE, 2),
                layout.bytes_of(len(packet), layout.word),
                layout.bytes_of(data, layout.word),
            ]
        )
        entries = sorted([*self.entries, added], key=lambda entry: layout.number(entry[:2]))
        again = layout.bytes_of(count, layout.counter) + b"".join(entries) + self.following
        pointer = Edit(layout.pointer, layout.word, layout.bytes_of(start, layout.word))
        return [pointer, Edit(self.size, 0, bytes(self.size % 2) + again + packet)]


def _xmp(window: Window, layout: _Layout, place: int, entry: bytes) -> Generator[None, None, Xmp]:
    """The packet that an entry names; longer, it is appended, and the entry names that one."""
    length = layout.number(entry[4 : 4 + layout.word])
    offset = layout.number(entry[4 + layout.word :])
    if layout.number(entry[2:4]) not in {_BYTE, _UNDEFINED} or not layout.word < length <= xmp.LARGEST:
        raise DamagedError("its XMP has an unusual type or size")
    size = yield from window.size()
    data = yield from window.at(offset, length)
    numbers = 2 * layout.word

    def resize(new: bytes) -> list[Edit]:
        start = size + size % 2
        if start + len(new) >= 1 << (8 * layout.word):
            raise NoRoomError("it is as large as its format allows")
        named = layout.bytes_of(len(new), layout.word) + layout.bytes_of(start, layout.word)
        return [Edit(place + 4, numbers, named), Edit(size, 0, bytes(size % 2) + new)]

    def delete(restore: str) -> list[Edit]:
        directory, old_size = noted(restore, "ifd", 2)
        _check_last(offset + length, size, old_size)
        pointer = Edit(layout.pointer, layout.word, layout.bytes_of(directory, layout.word))
        return [pointer, Edit(old_size, size - old_size, b"")]

    def undo(restore: str) -> list[Edit]:
        old_offset, old_length, old_size = noted(restore, "xmp", 3)
        _check_last(offset + length, size, old_size)
        named = layout.bytes_of(old_length, layout.word) + layout.bytes_of(old_offset, layout.word)
        return [Edit(place + 4, numbers, named), Edit(old_size, size - old_size, b"")]

    return Xmp(4, data, resize, delete, f"xmp:{offset},{length},{size}", undo)


def _check_last(end: int, size: int, old_size: int) -> None:
    if end != size or old_size >= size:
        raise NoRoomError("something was appended behind the mark")
