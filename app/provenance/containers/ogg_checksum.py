"""The check sum of an Ogg page: CRC-32 with the polynomial 0x04c11db7, not reflected (RFC 3533, section 6)."""

from typing import Final

_POLYNOMIAL: Final = 0x04C1_1DB7


def _row(index: int) -> int:
    value = index << 24
    for _ in range(8):
        value = (value << 1 ^ (_POLYNOMIAL if value & 0x8000_0000 else 0)) & 0xFFFF_FFFF
    return value


_TABLE: Final = tuple(_row(index) for index in range(256))


def checksum(page: bytes) -> bytes:
    """Of a page whose own check sum is zero; four bytes as they are written."""
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFF_FFFF) ^ _TABLE[value >> 24 ^ byte]
    return value.to_bytes(4, "little")
