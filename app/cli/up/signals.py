"""Ctrl-C, SIGTERM and SIGHUP as an exception of the main thread."""

import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final, Self

from app.cli.errors import StopRequest

ECHO_SECONDS: Final = 0.5
"""A launcher such as `uv run` may pass on what the terminal has sent us, too: that is one wish, not two."""
WISHES: Final = 2
"""The first stops, the second stops at once, more change nothing."""


class StopSignals:
    """While it is entered, the first two wishes to stop are raised as `StopRequest`."""

    def __init__(self) -> None:
        self._wishes = 0
        self._last = -ECHO_SECONDS
        self._held = False
        self._waiting = False
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # `nohup fleek up` outlives its terminal
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Generator[None]:
        """A moment that must not be cut in two: the wish is raised after it."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._waiting:
            self._waiting = False
            raise StopRequest

    def ignore(self) -> None:
        """From now on no wish is raised: what is going on is the end."""
        self._wishes = WISHES

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        echo = now - self._last < ECHO_SECONDS
        if echo or self._wishes == WISHES:
            return
        self._last = now
        self._wishes += 1
        if self._held:
            self._waiting = True
        else:
            raise StopRequest
