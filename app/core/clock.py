"""A clock that never jumps, and keeps running while the machine sleeps."""

import time
from typing import Final

# CLOCK_MONOTONIC stops while the machine is suspended, and a provider may spend money meanwhile.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def seconds() -> float:
    """Seconds since an arbitrary moment in the past, comparable within this process."""
    return time.clock_gettime(_CLOCK)
