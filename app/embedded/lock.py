"""Locks on data folders, released by the kernel when their holder dies."""

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import Self

from app.embedded.errors import DataFolderInUseError

LOCK_NAME = "fleek.lock"
PAUSE_SECONDS = 0.05


class FileLock:
    """An exclusive lock on a file that also holds the process id of its holder.

    The lock belongs to the open file: a child that inherits the descriptor holds it too,
    even after this process has closed its own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """The open file, for a child to inherit."""
        if self._descriptor is None:
            raise RuntimeError("the lock is not held")
        return self._descriptor

    def acquire(self, *, wait_seconds: float = 0) -> None:
        """Take the lock, waiting at most `wait_seconds`.

        Raises:
            DataFolderInUseError: Another process still holds it.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + wait_seconds
        while not _locked(descriptor):
            if time.monotonic() >= deadline:
                holder = _read_pid(descriptor)
                os.close(descriptor)
                raise DataFolderInUseError(self.path.parent, holder)
            time.sleep(PAUSE_SECONDS)
        self._descriptor = descriptor
        self.write_holder(os.getpid())

    def write_holder(self, pid: int) -> None:
        """Write the holder's process id into the file, for error messages."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{pid}\n".encode(), 0)

    def close(self) -> None:
        """Release it; a child that inherited it still holds it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class DataFolderLock:
    """Held by the only process that may use a data folder; a context manager."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path / LOCK_NAME)

    def acquire(self) -> None:
        """Lock the folder without waiting.

        Raises:
            DataFolderInUseError: Another process holds it; the error has its pid.
        """
        self._lock.acquire()

    def release(self) -> None:
        """Release it; may be called twice."""
        self._lock.close()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.release()


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_pid(descriptor: int) -> int | None:
    with contextlib.suppress(ValueError):
        return int(os.pread(descriptor, 32, 0))
    return None
