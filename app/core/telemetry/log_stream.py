"""Where log lines go: whole lines to standard error, without ever raising an error and without waiting for long.

A closed pipe, a full disk or a reader that has stopped reading costs log lines, which are counted; never the work.
"""

import contextlib
import os
import select
import stat
import sys
import threading
import time
from typing import Any, Final, TextIO

from app.core.telemetry.metrics import LOG_LINES_LOST

PIECE_BYTES: Final = 4096
"""A pipe that is ready takes so much at once without blocking: PIPE_BUF."""
LONGEST_WAIT: Final = 0.2
"""Seconds to wait for a reader that is slow."""
REST_SECONDS: Final = 10.0
"""After such a wait in vain there is no other for so long."""
STANDARD: Final = frozenset({1, 2})
"""Descriptors that stay open for as long as the process lives; any other may be somebody else's tomorrow."""


class LogStream:
    """A text stream to log to; may be used from any thread."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.RLock()  # a signal handler may log while its thread does
        self._descriptor = _standard_descriptor(stream)
        self._wait_again_at = 0.0
        self._torn = False
        """The last line was not written to its end."""

    def write(self, text: str) -> int:
        """Write a line, or lose it."""
        try:
            with self._lock:
                self._write(text)
        except Exception:  # noqa: BLE001 - whatever it is, it must not reach the work
            with contextlib.suppress(Exception):
                LOG_LINES_LOST.add()
        return len(text)

    def flush(self) -> None:
        """Every line is written at once."""

    def _write(self, text: str) -> None:
        if self._descriptor is None:
            self._stream.write(text)
            self._stream.flush()
            return
        rest = memoryview((f"\n{text}" if self._torn else text).encode(errors="backslashreplace"))
        self._torn = True
        while rest:
            self._wait_until_ready(self._descriptor)
            with contextlib.suppress(BlockingIOError, InterruptedError):
                rest = rest[os.write(self._descriptor, rest[:PIECE_BYTES]) :]
        self._torn = False

    def _wait_until_ready(self, descriptor: int) -> None:
        """Return when a piece can be written without blocking.

        Raises:
            TimeoutError: The reader does not read.
        """
        ready = select.poll()
        ready.register(descriptor, select.POLLOUT)
        if ready.poll(0):
            return
        now = time.monotonic()
        if now >= self._wait_again_at:
            if ready.poll(LONGEST_WAIT * 1000):
                return
            self._wait_again_at = now + REST_SECONDS
        raise TimeoutError("nobody reads the log")


def protect_standard_streams() -> None:
    """From now on nobody's `print` fails, for programs whose libraries print; they may be closed from the start."""
    for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
        setattr(sys, name, _Protected(getattr(sys, name)))


class _Protected:
    """A stream that loses what cannot be written."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(Exception):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(Exception):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _standard_descriptor(stream: TextIO) -> int | None:
    """The descriptor to write to directly; None: the stream leads elsewhere, or to a file, which never blocks."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        descriptor = stream.fileno()
        if descriptor in STANDARD and not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
    return None
