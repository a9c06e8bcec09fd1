"""FLAC and Ogg (Vorbis, Opus): a comment `XMP` among the Vorbis comments, which readers show under this name.

Source: RFC 9639, section 8; Vorbis I specification, section 5; RFC 7845, section 5.2; RFC 3533, section 6.
"""

import struct
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final

from app.provenance.containers.ogg_checksum import checksum
from app.provenance.errors import DamagedError, NoRoomError
from app.provenance.window import C2pa, Edit, Hold, Part, Slot, Walk, Window, Xmp

FLAC: Final = b"fLaC"
OGG: Final = b"OggS"
_KEY: Final = b"XMP="
_LAST: Final = 0x80
_STREAM, _COMMENTS = 0, 4
_LARGEST_BLOCK: Final = 0xFF_FFFF
_LARGEST_COMMENTS: Final = 512 * 1024
_ADDED: Final = "block"
_ADDED_LAST: Final = "last"
_PAGE: Final = 27
_MOST_SEGMENTS: Final = 255
_CONTINUED: Final = 0x01
_BEGINS: Final = 0x02
_C2PA: Final = b"\x00c2pa"
_MOST_STREAMS: Final = 8


@dataclass(frozen=True, slots=True)
class _Comments:
    """A list of comments, cut where it matters."""

    count_at: int
    end: int
    """Behind the last comment; what follows is kept."""
    xmp: tuple[int, int] | None
    """Where the packet begins and ends in it."""

    @classmethod
    def of(cls, data: bytes, start: int) -> "_Comments":
        try:
            place = start + 4 + int.from_bytes(data[start : start + 4], "little")
            (count,) = struct.unpack_from("<I", data, place)
            count_at, place, found = place, place + 4, None
            for _ in range(count):
                (length,) = struct.unpack_from("<I", data, place)
                begin, place = place + 4, place + 4 + length
                if data[begin : begin + 4].upper() == _KEY:
                    found = (begin + 4, place)
        except struct.error as error:
            raise DamagedError("its comments are incomplete") from error
        if place > len(data):
            raise DamagedError("its comments are incomplete")
        return cls(count_at, place, found)

    def added(self, data: bytes, packet: bytes) -> bytes:
        count = int.from_bytes(data[self.count_at : self.count_at + 4], "little") + 1
        return b"".join(
            [
                data[: self.count_at],
                count.to_bytes(4, "little"),
                data[self.count_at + 4 : self.end],
                _comment(packet),
                data[self.end :],
            ]
        )

    def resized(self, data: bytes, packet: bytes | None) -> bytes:
        """With another packet; None: without it."""
        if self.xmp is None:
            return data
        begin, end = self.xmp[0] - 8, self.xmp[1]
        if packet is not None:
            length = (len(_KEY) + len(packet)).to_bytes(4, "little")
            return data[:begin] + length + data[begin + 4 : begin + 8] + packet + data[end:]
        count = int.from_bytes(data[self.count_at : self.count_at + 4], "little") - 1
        return data[: self.count_at] + count.to_bytes(4, "little") + data[self.count_at + 4 : begin] + data[end:]


def _comment(packet: bytes) -> bytes:
    return (len(_KEY) + len(packet)).to_bytes(4, "little") + _KEY + packet


Wrap = Callable[[bytes], list[Edit]]
"""Puts other comments into their container."""


def _part(place: int, data: bytes, start: int, wrap: Wrap) -> Part:
    """The packet in these comments, or the place for one."""
    comments = _Comments.of(data, start)
    if comments.xmp is None:
        return Slot(place, lambda packet: wrap(comments.added(data, packet)))
    return Xmp(
        place,
        data[slice(*comments.xmp)],
        lambda packet: wrap(comments.resized(data, packet)),
        lambda _: wrap(comments.resized(data, None)),
    )


def walk_flac(window: Window) -> Walk:
    """FLAC: the block of comments; one is inserted behind the first block if there is none, which the mark notes."""
    yield Hold(4)
    place, last, parts = 4, False, 0
    behind_stream, only = 0, False
    while not last:
        head = yield from window.at(place, 4)
        kind, length = head[0] & 0x7F, int.from_bytes(head[1:])
        last = bool(head[0] & _LAST)
        if (place == len(FLAC)) != (kind == _STREAM):
            raise DamagedError("it does not begin with a description of its stream")
        if kind == _COMMENTS:
            yield (yield from _flac_comments(window, place, head, last=last))
            parts += 1
        place += 4 + length
        window.release(place)
        if kind == _STREAM:
            behind_stream, only = place, last
    yield from window.at(place, 1)
    if not parts:
        yield _flac_slot(behind_stream, only=only)


def _flac_slot(place: int, *, only: bool) -> Slot:
    """For a block of comments of our own; if the first block was the last one, it is not any more."""

    def insert(packet: bytes) -> list[Edit]:
        body = bytes(4) + (1).to_bytes(4, "little") + _comment(packet)
        block = Edit(place, 0, bytes([_COMMENTS | (_LAST if only else 0)]) + len(body).to_bytes(3) + body)
        return [Edit(4, 1, b"\x00"), block] if only else [block]

    return Slot(4, insert, _ADDED_LAST if only else _ADDED)


def _flac_comments(window: Window, place: int, head: bytes, *, last: bool) -> Generator[None, None, Part]:
    length = int.from_bytes(head[1:])
    if length > _LARGEST_COMMENTS:
        raise DamagedError("its comments are too long")
    data = yield from window.at(place + 4, length)

    def wrap(new: bytes) -> list[Edit]:
        if len(new) > _LARGEST_BLOCK:
            raise NoRoomError("its comments are as long as its format allows")
        return [Edit(place, 4 + length, head[:1] + len(new).to_bytes(3) + new)]

    part = _part(place, data, 0, wrap)
    if not isinstance(part, Xmp):
        return part

    def delete(restore: str) -> list[Edit]:
        if restore not in {_ADDED, _ADDED_LAST}:
            return part.delete(restore)
        flag = [Edit(4, 1, bytes([_LAST]))] if restore == _ADDED_LAST and last else []
        return [*flag, Edit(place, 4 + length, b"")]

    return Xmp(part.start, part.data, part.resize, delete)


def walk_ogg(window: Window) -> Walk:
    """Ogg: the second page, if all comments are in it and it has room for more."""
    yield Hold(0)
    first = yield from _page(window, 0)
    body = first[_PAGE + first[26] :]
    yield from _manifests(window, first)
    if body.startswith(b"OpusHead"):
        prefix = b"OpusTags"
    elif body.startswith(b"\x01vorbis"):
        prefix = b"\x03vorbis"
    else:
        raise DamagedError("it is an Ogg stream of another kind")
    place = len(first)
    page = yield from _page(window, place)
    table = page[_PAGE : _PAGE + page[26]]
    content = page[_PAGE + page[26] :]
    packets = _packets(table)
    if first[14:18] != page[14:18] or not content.startswith(prefix) or page[5] & _CONTINUED:
        raise DamagedError("its comments are not where they belong")
    if not packets or packets[0] is None:
        raise NoRoomError("its comments fill more than one page")
    size = packets[0]

    def wrap(new: bytes) -> list[Edit]:
        lacing = bytes([255] * (len(new) // 255) + [len(new) % 255]) + table[size // 255 + 1 :]
        if len(lacing) > _MOST_SEGMENTS:
            raise NoRoomError("its comments fill their page")
        again = page[:22] + bytes(4) + bytes([len(lacing)]) + lacing + new + content[size:]
        return [Edit(place, len(page), again[:22] + checksum(again) + again[26:])]

    yield _part(place, content[:size], len(prefix), wrap)


def _manifests(window: Window, page: bytes) -> Walk:
    """A stream of its own among those that begin together (C2PA specification 2.3, section A.3.5)."""
    place = 0
    for _ in range(_MOST_STREAMS):
        if not page[5] & _BEGINS:
            return
        if page[_PAGE + page[26] :].startswith(_C2PA):
            yield C2pa(place)
        place += len(page)
        page = yield from _page(window, place)


def _page(window: Window, place: int) -> Generator[None, None, bytes]:
    head = yield from window.at(place, _PAGE)
    if not head.startswith(OGG) or head[4] != 0:
        raise DamagedError("it has a page that is none")
    table = yield from window.at(place + _PAGE, head[26])
    page = yield from window.at(place, _PAGE + len(table) + sum(table))
    if checksum(page[:22] + bytes(4) + page[26:]) != page[22:26]:
        raise DamagedError("the check sum of a page is wrong")
    return page


def _packets(table: bytes) -> list[int | None]:
    """Sizes of the packets that begin in a page; None: it goes on in the next one."""
    sizes: list[int | None] = []
    size = 0
    for segment in table:
        size += segment
        if segment < 255:  # noqa: PLR2004 - what ends a packet
            sizes.append(size)
            size = 0
    if table and table[-1] == 255:  # noqa: PLR2004 - as above
        sizes.append(None)
    return sizes
