"""Locks on data folders that the kernel takes back when their holder dies."""

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
    """An exclusive lock on a file that also says who holds it.

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

    def acquire(self, *, patience: float = 0) -> None:
        """Take the lock, waiting at most `patience` seconds.

        Raises:
            DataFolderInUseError: Somebody else still holds it.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + patience
        while not _locked(descriptor):
            if time.monotonic() >= deadline:
                holder = _read_pid(descriptor)
                os.close(descriptor)
                raise DataFolderInUseError(self.path.parent, holder)
            time.sleep(PAUSE_SECONDS)
        self._descriptor = descriptor
        self.sign(os.getpid())

    def sign(self, pid: int) -> None:
        """Write down who holds it, for those who are refused."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{pid}\n".encode(), 0)

    def close(self) -> None:
        """Let go of it; a child that inherited it keeps it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class DataFolderLock:
    """Held by the one process that may use a data folder, as a context manager."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path / LOCK_NAME)

    def acquire(self) -> None:
        """Take the folder at once.

        Raises:
            DataFolderInUseError: Another process has it; the error names its pid.
        """
        self._lock.acquire()

    def release(self) -> None:
        """Give it back; twice does no harm."""
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
