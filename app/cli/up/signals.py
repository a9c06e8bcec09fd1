"""Turns Ctrl-C, SIGTERM and SIGHUP into an exception in the main thread."""

import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final, Self

from app.cli.errors import StopRequest

ECHO_SECONDS: Final = 0.5
"""A launcher such as `uv run` may forward a signal that the terminal has already sent: count both as one."""
MOST_REQUESTS: Final = 2
"""The first request stops gracefully, the second at once; further ones are ignored."""


class StopSignals:
    """A context in which the first two stop requests are raised as `StopRequest`."""

    def __init__(self) -> None:
        self._requests = 0
        self._last = -ECHO_SECONDS
        self._held = False
        self._pending = False
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # `nohup fleek up` must survive its terminal
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Generator[None]:
        """A block that must not be interrupted: a stop request is raised after it."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._pending:
            self._pending = False
            raise StopRequest

    def ignore(self) -> None:
        """Ignore further stop requests: the process is already stopping at once."""
        self._requests = MOST_REQUESTS

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        echo = now - self._last < ECHO_SECONDS
        if echo or self._requests == MOST_REQUESTS:
            return
        self._last = now
        self._requests += 1
        if self._held:
            self._pending = True
        else:
            raise StopRequest
