"""RIFF: WebP (chunk `XMP `, last) and WAV (chunk `_PMX`, before the samples); C2PA in `C2PA`.

A simple WebP picture gets the header that metadata needs (`VP8X`); the mark notes it, so that its removal takes it
out again. Sizes stand at the beginning, so all is decided there; chunks that follow the picture are waited for.
Source: WebP container specification (RFC 9649, section 2.7); XMP specification part 3
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Final

from app.provenance import xmp
from app.provenance.containers.chunks import SMALLEST_MANIFEST
from app.provenance.errors import DamagedError, NoRoomError
from app.provenance.mark import find_written
from app.provenance.window import C2pa, Edit, Hold, Part, Slot, Walk, Window, Xmp

SIGNATURE: Final = b"RIFF"
_HEADER: Final = 12
_ADDED: Final = "VP8X"
_FLAGGED: Final = "flag"
_VP8X: Final = b"VP8X\x0a\x00\x00\x00"
_VP8X_SIZE: Final = 18
_XMP_FLAG, _ALPHA_FLAG = 0x04, 0x10
_XMP_NAMES: Final = {b"WEBP": b"XMP ", b"WAVE": b"_PMX"}
_PICTURES: Final = frozenset({b"VP8 ", b"VP8L"})
_UNKNOWN: Final = frozenset({0, 0x7FFF_FFFF, 0xFFFF_FFFF})
"""Placeholders that encoders of sound write when they do not know the size yet."""
_LEAST: Final = 22
"""The size that a picture at least says it has."""
_LARGEST: Final = 0xFFFF_FFFF
_TAIL: Final = 8 * 1024


@dataclass(slots=True)
class _File:
    size: int
    """As declared, without the first eight bytes; 0: unknown."""
    form: bytes
    first: bytes
    """The first chunk's name."""
    flags: int = 0
    """Of VP8X."""

    @property
    def end(self) -> int:
        return self.size + 8

    @property
    def lacks_xmp(self) -> bool:
        """Whether a picture does not announce any."""
        return not (self.first == b"VP8X" and self.flags & _XMP_FLAG)


def walk(window: Window) -> Walk:
    """See the module."""
    head = yield from window.at(0, _HEADER + 8)
    file = _File(int.from_bytes(head[4:8], "little"), head[8:12], head[12:16])
    yield Hold(4)
    if file.form == b"WEBP":
        yield from _webp(window, file)
    elif file.form == b"WAVE":
        yield from _wav(window, file)
    else:
        raise DamagedError("it is a RIFF file of another form")


@dataclass(frozen=True, slots=True)
class _Chunk:
    place: int
    name: bytes
    size: int

    @property
    def end(self) -> int:
        """With its padding."""
        return self.place + 8 + self.size + self.size % 2


def _chunk(window: Window, place: int) -> Generator[None, None, _Chunk]:
    head = yield from window.at(place, 8)
    return _Chunk(place, head[:4], int.from_bytes(head[4:], "little"))


def _metadata(window: Window, file: _File, chunk: _Chunk) -> Walk:
    if chunk.name == b"C2PA":
        yield C2pa(chunk.place)
    elif chunk.name == _XMP_NAMES[file.form]:
        yield (yield from _xmp(window, file, chunk))


def _webp(window: Window, file: _File) -> Walk:
    """A mark of ours may be at the end of what is left of a file that was cut off: look there if it is nowhere else."""
    found = False
    try:
        for part in _webp_parts(window, file):
            found = found or isinstance(part, Xmp)
            yield part
    except DamagedError:
        if not found:
            yield from _last(window, file)
        raise


def _webp_parts(window: Window, file: _File) -> Walk:
    alpha, canvas = yield from _canvas(window, file)
    if file.size % 2 or file.size < _LEAST or (window.total is not None and window.total < file.end):
        raise DamagedError("its size is none, or it is cut off")
    found, place = False, _HEADER
    while place < file.end:
        chunk = yield from _chunk(window, place)
        if chunk.end > file.end:
            raise DamagedError("a chunk of it ends behind its end")
        for part in _metadata(window, file, chunk):
            found = found or isinstance(part, Xmp)
            yield part
        place = chunk.end
        if chunk.name in _PICTURES and file.lacks_xmp and file.end - place <= SMALLEST_MANIFEST:
            # Whether something of importance follows is seen from the sizes.
            yield _webp_slot(file, alpha, canvas)
        window.release(place)
    yield from window.at(file.end - 1, 1)
    if not found:
        if not file.lacks_xmp:
            raise DamagedError("it lacks the XMP that it announces")
        yield _webp_slot(file, alpha, canvas)


def _webp_slot(file: _File, alpha: int, canvas: bytes) -> Slot:
    if file.first == b"VP8X":
        flag = bytes([file.flags | _XMP_FLAG])
        return Slot(4, lambda packet: [*_appended(file, packet, 0), Edit(20, 1, flag)], _FLAGGED)
    extended = _VP8X + bytes([_XMP_FLAG | alpha, 0, 0, 0]) + canvas
    return Slot(4, lambda packet: [*_appended(file, packet, _VP8X_SIZE), Edit(_HEADER, 0, extended)], _ADDED)


def _canvas(window: Window, file: _File) -> Generator[None, None, tuple[int, bytes]]:
    """The flag for transparency, and width and height less one, three bytes each, of a simple picture."""
    data = yield from window.at(_HEADER + 8, 10)
    if file.first == b"VP8X":
        file.flags = data[0]
        return 0, b""
    if file.first == b"VP8 " and data[3:6] == b"\x9d\x01\x2a":
        width, height, alpha = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little"), 0
        width, height = width & 0x3FFF, height & 0x3FFF
    elif file.first == b"VP8L" and data[0] == 0x2F:  # noqa: PLR2004 - its signature
        bits = int.from_bytes(data[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        alpha = _ALPHA_FLAG if bits >> 28 & 1 else 0
    else:
        raise DamagedError("it begins with a chunk that is no picture")
    if not width or not height:
        raise DamagedError("it has no size")
    return alpha, (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def _appended(file: _File, packet: bytes, more: int) -> list[Edit]:
    chunk = b"XMP " + len(packet).to_bytes(4, "little") + packet
    return [*_grown(file, len(chunk) + more), Edit(file.end, 0, chunk)]


def _grown(file: _File, count: int) -> list[Edit]:
    if not file.size:
        return []
    if file.size + count > _LARGEST:
        raise NoRoomError("it is as large as its format allows")
    return [Edit(4, 4, (file.size + count).to_bytes(4, "little"))]


def _xmp(window: Window, file: _File, chunk: _Chunk) -> Generator[None, None, Part]:
    place, size = chunk.place, chunk.size
    if size > xmp.LARGEST:
        raise DamagedError(f"its XMP has more than {xmp.LARGEST} bytes")
    data = yield from window.at(place + 8, size)

    def resize(new: bytes) -> list[Edit]:
        count = len(new) - size
        if count % 2:
            raise NoRoomError("its XMP would need padding")
        length = Edit(place + 4, 4, len(new).to_bytes(4, "little"))
        return [*_grown(file, count), length, *_spliced(place + 8, data, new)]

    return Xmp(place, data, resize, lambda restore: list(_removed(file, place, chunk.end - place, restore)))


def _spliced(place: int, old: bytes, new: bytes) -> Iterator[Edit]:
    yield Edit(place, len(old), new)


def _removed(file: _File, place: int, size: int, restore: str) -> Iterator[Edit]:
    """The chunk itself, the file's size, and the header or the flag that came with it."""
    added = _VP8X_SIZE if restore == _ADDED and file.first == b"VP8X" else 0
    yield from _grown(file, -size - added)
    yield Edit(place, size, b"")
    if added:
        yield Edit(_HEADER, added, b"")
    elif restore == _FLAGGED and file.first == b"VP8X":
        yield Edit(20, 1, bytes([file.flags & ~_XMP_FLAG]))


def _last(window: Window, file: _File) -> Walk:
    """A mark of ours where the file ends, or where it says that it ends."""
    if window.total is None:
        return
    end = min(window.total, file.end)
    begin = max(end - _TAIL, 0)
    tail = yield from window.at(begin, end - begin)
    at = tail.rfind(b"XMP ")
    packet = tail[at + 8 :]
    written = find_written(packet) if at >= 0 else None
    if written is not None and written.alone and int.from_bytes(tail[at + 4 : at + 8], "little") == len(packet):
        place = begin + at
        yield Xmp(place, packet, _refuse, lambda restore: list(_removed(file, place, 8 + len(packet), restore)))


def _refuse(_: bytes) -> list[Edit]:
    raise NoRoomError("it is cut off")


def _wav(window: Window, file: _File) -> Walk:
    if file.size in _UNKNOWN:
        file.size = 0
    elif file.size % 2:
        raise DamagedError("its size is odd")
    place = _HEADER
    slot: Slot | None = None
    while not file.size or place < file.end:
        chunk = yield from _chunk(window, place)
        yield from _metadata(window, file, chunk)
        if chunk.name == b"data":
            slot = _wav_slot(file, place)
            if not file.size:
                break
            if file.end - chunk.end <= SMALLEST_MANIFEST:
                # Whether something of importance follows is seen from the sizes.
                yield slot
        place = chunk.end
        window.release(place)
    yield from _wav_end(window, file, slot)


def _wav_end(window: Window, file: _File, slot: Slot | None) -> Walk:
    if slot is None:
        raise DamagedError("it has no samples")
    if file.size:
        yield from window.at(file.end - 1, 1)
    yield slot


def _wav_slot(file: _File, place: int) -> Slot:
    return Slot(place, lambda packet: [*_grown(file, 8 + len(packet)), Edit(place, 0, _pmx(packet))])


def _pmx(packet: bytes) -> bytes:
    return b"_PMX" + len(packet).to_bytes(4, "little") + packet
