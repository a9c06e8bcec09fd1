"""A valid PNG of a wanted size, made for next to nothing: the result of `dummy/faulty`."""

import struct
import zlib
from functools import lru_cache
from typing import Final

WIDTH: Final = 256


@lru_cache(maxsize=16)
def png_of_about(size: int) -> bytes:
    """A grey picture whose file has about `size` bytes, 1,000 or more.

    Source: W3C PNG (Third Edition), section 5; the pixels are stored, not compressed.
    """
    height = max(1, (size - 100) // (WIDTH + 1))
    rows = b"".join(b"\x00" + bytes((x * y + x) & 0xFF for x in range(WIDTH)) for y in range(min(height, WIDTH)))
    pixels = (rows * (height // WIDTH + 1))[: height * (WIDTH + 1)]
    header = struct.pack(">IIBBBBB", WIDTH, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(pixels, 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
