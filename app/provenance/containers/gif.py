"""GIF: an application extension before the first picture; C2PA in one of its own.

Source: GIF89a specification; XMP specification part 3
"""

from collections.abc import Generator
from typing import Final

from app.provenance import xmp
from app.provenance.containers.chunks import swapped
from app.provenance.errors import DamagedError
from app.provenance.window import C2pa, Edit, Slot, Walk, Window, Xmp

SIGNATURES: Final = (b"GIF87a", b"GIF89a")
_APPLICATION: Final = b"\x21\xff\x0b"
_XMP: Final = _APPLICATION + b"XMP DataXMP"
_C2PA: Final = _APPLICATION + b"C2PA_GIF"
_TRAILER: Final = b"\x01" + bytes(range(0xFF, -1, -1)) + b"\x00"
"""Behind the packet: wherever a reader that counts blocks comes from, it ends here."""
_READ: Final = 64 * 1024
_IMAGE, _EXTENSION, _END = 0x2C, 0x21, 0x3B
_BEFORE: Final = frozenset({0xFE, 0xFF})
"""Extensions that precede the slot: comments, and those of applications, such as the number of loops."""


def walk(window: Window) -> Walk:
    """See the module."""
    screen = yield from window.at(0, 13)
    place = 13 + _table(screen[10])
    window.release(place)
    leading = True
    while True:
        kind, label = yield from window.at(place, 2) if leading else _first(window, place)
        if leading and (kind != _EXTENSION or label not in _BEFORE):
            leading = False
            yield _slot(place)
        if kind == _END:
            break
        if kind == _IMAGE:
            head = yield from window.at(place, 10)
            place = yield from _blocks(window, place + 10 + _table(head[9]) + 1)
        elif kind == _EXTENSION:
            head = yield from window.at(place, 3)
            name = (yield from window.at(place, len(_XMP))) if head == _APPLICATION else b""
            if name == _XMP:
                packet = yield from _packet(window, place + len(_XMP))
                yield _xmp(place, packet)
                place += len(_XMP) + len(packet) + len(_TRAILER)
            else:
                if name.startswith(_C2PA):
                    yield C2pa(place)
                place = yield from _blocks(window, place + 2)
        else:
            raise DamagedError("it has a block that is none")
        window.release(place)


def _slot(place: int) -> Slot:
    return Slot(place, lambda packet: [Edit(place, 0, _XMP + packet + _TRAILER)])


def _first(window: Window, place: int) -> Generator[None, None, bytes]:
    """The next byte, and one that does not count."""
    return (yield from window.at(place, 1)) + b"\x00"


def _table(flags: int) -> int:
    """Bytes of a colour table."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _blocks(window: Window, place: int) -> Generator[None, None, int]:
    """Where the blocks that begin here end."""
    while True:
        window.release(place)
        data = yield from window.some(place, _READ)
        if not data:
            raise DamagedError("it is cut off")
        at = 0
        while at < len(data):
            # Nearly all blocks are full ones: count them without a loop.
            lengths = data[at::256]
            full = len(lengths) - len(lengths.lstrip(b"\xff"))
            at += 256 * full
            if at < len(data):
                if data[at] == 0:
                    return place + at + 1
                at += 1 + data[at]
        place += at


def _packet(window: Window, place: int) -> Generator[None, None, bytes]:
    data, seen = bytearray(), 0
    while len(data) <= xmp.LARGEST:
        more = yield from window.some(place + len(data), _READ)
        if not more:
            raise DamagedError("it is cut off")
        data += more
        end = data.find(_TRAILER, seen)
        if end >= 0:
            return bytes(data[:end])
        seen = max(len(data) - len(_TRAILER), 0)
    raise DamagedError(f"its XMP has more than {xmp.LARGEST} bytes")


def _xmp(place: int, packet: bytes) -> Xmp:
    whole = len(_XMP) + len(packet) + len(_TRAILER)
    return Xmp(
        place,
        packet,
        resize=lambda data: swapped(place + len(_XMP), packet, data),
        delete=lambda _: [Edit(place, whole, b"")],
    )
