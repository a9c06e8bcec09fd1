"""Pictures: the sizes that their beginnings state for certain, and the formats whose signature alone proves little.

Source: PNG (W3C), section 11.2.1; WebP Container Specification; RFC 6386, section 9.1; RFC 9649, section 3.4;
BITMAPINFOHEADER and OS/2 bitmaps as in the Windows and OS/2 developers' references; Truevision TGA 2.0;
ISO/IEC 18181-1, section 9.2 (JPEG XL).
"""

from collections.abc import Callable
from typing import Final

from app.core.file_types import bmff, heif, tiff
from app.core.file_types.gif import GifBlocks
from app.core.file_types.jpeg import JpegSegments
from app.core.file_types.kind import Kind

Size = tuple[int, int]

_BITMAP_CORE: Final = 12
"""Bytes of the first OS/2 header, whose sizes are of 16 bits."""
_BITMAP_HEADERS: Final = frozenset({_BITMAP_CORE, 16, 40, 52, 56, 64, 108, 124})
_BITMAP_DEPTHS: Final = frozenset({0, 1, 2, 4, 8, 16, 24, 32})
_ICON_TYPES: Final = {1: Kind("image/x-icon", "ico"), 2: Kind("image/x-icon", "cur")}
_ICON_ENTRY: Final = 16
_TGA_HEADER: Final = 18
_TGA_MAPPED: Final = frozenset({1, 9})
_TGA_TYPES: Final = frozenset({1, 2, 3, 9, 10, 11})
_TGA_DEPTHS: Final = frozenset({8, 15, 16, 24, 32})
_TIFFS: Final = (b"II*\x00\x08", b"MM\x00*", b"II*\x00", b"II+\x00\x08\x00", b"MM\x00+\x00\x08")


def _u16(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 2], "little")


def _u32(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 4], "little")


def recognise(head: bytes) -> Kind | None:
    """Pictures that libraries do not know, or take for others; None: it is none of them."""
    if head.startswith(b"BM") and len(head) >= 26:  # noqa: PLR2004 - both headers
        return Kind("image/bmp", "bmp") if _is_bitmap(head) else None
    if head.startswith(_TIFFS[-2:]):
        return Kind("image/tiff", "tif")
    if head[:4] in {b"\x00\x00\x01\x00", b"\x00\x00\x02\x00"} and icon_entries(head):
        return _ICON_TYPES[head[2]]
    if head.startswith(b"\xff\x0a") and _jxl_size(head) is not None:
        return Kind("image/jxl", "jxl")
    return None


def recognise_weakly(head: bytes) -> Kind | None:
    """TGA, which has no signature: asked when nothing else matches."""
    if len(head) < _TGA_HEADER:
        return None
    mapped, kind, depth, descriptor = head[1], head[2], head[16], head[17]
    first, entries, entry_bits = _u16(head, 3), _u16(head, 5), head[7]
    if mapped > 1 or kind not in _TGA_TYPES or not _u16(head, 12) or not _u16(head, 14):
        return None
    if mapped and (not entries or first > entries or entry_bits not in _TGA_DEPTHS):
        return None
    if not mapped and (first or entries or kind in _TGA_MAPPED):
        return None
    fits = depth in _TGA_DEPTHS and not descriptor & 0xC0 and descriptor & 0x0F <= 8  # noqa: PLR2004 - bits of alpha
    return Kind("image/x-tga", "tga") if fits else None


def _is_bitmap(head: bytes) -> bool:
    header = _u32(head, 14)
    if header not in _BITMAP_HEADERS:
        return False
    planes, depth = (22, 24) if header == _BITMAP_CORE else (26, 28)
    return _u16(head, planes) == 1 and _u16(head, depth) in _BITMAP_DEPTHS


def icon_entries(head: bytes) -> list[tuple[int, int]]:
    """Where the pictures of an icon begin, and how long they are; empty: it is no icon."""
    count = _u16(head, 4)
    places = [6 + number * _ICON_ENTRY for number in range(count)]
    first = 6 + count * _ICON_ENTRY
    entries = [(_u32(head, place + 12), _u32(head, place + 8)) for place in places]
    whole = count > 0 and len(head) >= first and all(head[place + 3] in {0, 255} for place in places)
    return entries if whole and all(begin >= first and length for begin, length in entries) else []


def _png(head: bytes) -> Size | None:
    if head[12:16] != b"IHDR":
        return None
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])


def _gif(head: bytes) -> Size | None:
    blocks = GifBlocks()
    blocks.feed(head)
    return blocks.size


def _jpeg(head: bytes) -> Size | None:
    segments = JpegSegments()
    segments.feed(head)
    return segments.size


def _webp(head: bytes) -> Size | None:
    name = head[12:16]
    if name == b"VP8X" and len(head) >= 30:  # noqa: PLR2004 - the chunk
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if name == b"VP8L" and head[20:21] == b"\x2f" and len(head) >= 25:  # noqa: PLR2004 - the size
        bits = _u32(head, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if name == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        return _u16(head, 26) & 0x3FFF, _u16(head, 28) & 0x3FFF
    return None


def _bitmap(head: bytes) -> Size | None:
    if not _is_bitmap(head):
        return None
    if _u32(head, 14) == _BITMAP_CORE:
        return _u16(head, 18), _u16(head, 20)
    # A negative height: its rows are stored from above.
    return int.from_bytes(head[18:22], "little", signed=True), abs(int.from_bytes(head[22:26], "little", signed=True))


def _heif(head: bytes) -> Size | None:
    found = heif.read(head)
    return None if found is None else found.displayed


class _Bits:
    """Bits from the lowest of each byte, as JPEG XL has them."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        taken = self._value & ((1 << count) - 1)
        self._value >>= count
        return taken

    def long(self) -> int:
        """A length in one of four widths."""
        return self.take((9, 13, 18, 30)[self.take(2)]) + 1


_JXL_RATIOS: Final = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_JXL_ROTATED: Final = 4
"""The first orientation that swaps width and height, counted from 0."""


def _jxl_size(codestream: bytes) -> Size | None:
    if len(codestream) < 14:  # noqa: PLR2004 - signature, size and orientation at their longest
        return None
    bits = _Bits(codestream[2:14])
    small = bits.take(1)
    height = (bits.take(5) + 1) * 8 if small else bits.long()
    ratio = bits.take(3)
    if ratio:
        over, under = _JXL_RATIOS[ratio]
        width = height * over // under
    else:
        width = (bits.take(5) + 1) * 8 if small else bits.long()
    all_default = bits.take(1)
    rotated = not all_default and bits.take(1) and bits.take(3) >= _JXL_ROTATED
    return (height, width) if rotated else (width, height)


def _jxl(head: bytes) -> Size | None:
    if head.startswith(b"\xff\x0a"):
        return _jxl_size(head)
    for name, start, _ in bmff.boxes(head):
        if name in {b"jxlc", b"jxlp"}:
            start += 4 if name == b"jxlp" else 0  # noqa: PLW2901 - the piece's number
            return _jxl_size(head[start:]) if head[start : start + 2] == b"\xff\x0a" else None
    return None


_SIZES: Final[dict[str, Callable[[bytes], Size | None]]] = {
    "image/png": _png,
    "image/apng": _png,
    "image/gif": _gif,
    "image/jpeg": _jpeg,
    "image/webp": _webp,
    "image/bmp": _bitmap,
    "image/jxl": _jxl,
    "image/tiff": tiff.size,
    "image/avif": _heif,
    "image/heic": _heif,
    "image/heif": _heif,
}
"""The formats that are simple enough. All others are left to a decoder, which reads the whole file."""


def size_of(media_type: str, head: bytes) -> Size | None:
    """Width and height in pixels, as displayed; None: they are not certain."""
    reader = _SIZES.get(media_type)
    size = None if reader is None else reader(head)
    return size if size is not None and min(size) > 0 else None
