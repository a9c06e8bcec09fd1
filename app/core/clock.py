"""A clock that never jumps, and goes on while the machine sleeps."""

import time
from typing import Final

# CLOCK_MONOTONIC stands still during a suspend, and money may be spent at the other side of one.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def seconds() -> float:
    """Seconds since some moment in the past, comparable within this process."""
    return time.clock_gettime(_CLOCK)
