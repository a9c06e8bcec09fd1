"""Two clocks: one that never jumps, and the time of day as the database has it.

`seconds` keeps running while the machine sleeps. `now` is this machine's time of day, unless a comparison with the
database has shown that it is off: then it is the database's, which all processes share. Whatever others check against
their own clocks, such as signatures, or what several processes compare, uses `now`.
"""

import time
from datetime import UTC, datetime
from typing import Final

# CLOCK_MONOTONIC stops while the machine is suspended, and a provider may spend money meanwhile.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

OFF_SECONDS: Final = 2.0
"""The difference from which a clock counts as off."""
SLOWEST_COMPARISON: Final = 1.0
"""Seconds; one that takes longer says too little."""


def seconds() -> float:
    """Seconds since an arbitrary moment in the past, comparable within this process."""
    return time.clock_gettime(_CLOCK)


class _State:
    """What the last comparison has shown."""

    ahead = 0.0
    """Seconds by which this machine's time of day is ahead of the database's."""
    epoch: float | None = None
    """The database's time of day when `seconds` was 0; None: this machine's clock is right, or not compared yet."""


def timestamp() -> float:
    """Seconds since 1970."""
    return time.time() if _State.epoch is None else _State.epoch + seconds()


def now() -> datetime:
    """The time of day, in UTC."""
    return datetime.fromtimestamp(timestamp(), UTC)


def ahead() -> float:
    """Seconds by which this machine's time of day is ahead of the database's, as far as is known; 0: about equal."""
    return 0.0 if _State.epoch is None else _State.ahead


def in_words(difference: float) -> str:
    """How far a clock is off that is ahead by so many seconds."""
    return f"{abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} the database's"


def compare(database_time: datetime, took: float) -> float:
    """Compare with what the database has just answered; seconds by which this machine is ahead, negative: behind.

    Args:
        database_time: Of some moment between question and answer.
        took: Seconds between the two.
    """
    expected = database_time.timestamp() + took / 2
    difference = time.time() - expected
    if took <= SLOWEST_COMPARISON:
        _State.ahead = difference
        _State.epoch = expected - seconds() if abs(difference) > OFF_SECONDS else None
    return difference
