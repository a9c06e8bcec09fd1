"""Identifiers: UUID version 7, so that ids sort by their time of creation."""

import os
import time
from uuid import UUID


def new_id() -> UUID:
    """A new UUID version 7: 48 bits of milliseconds since 1970, 74 random bits.

    Source: RFC 9562, section 5.7.
    """
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)
