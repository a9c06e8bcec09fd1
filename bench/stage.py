"""Where a measurement takes place: engines in a temp folder, and the processes that are measured.

Everything is ended by pid and removed on every path out, SIGTERM included. Linux only: it reads /proc.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

import psutil

from app.core.config import Settings
from app.embedded.engines import Engines
from app.embedded.process import Command, ManagedProcess, free_port
from app.storage.s3 import S3Store

ROOT: Final = Path(__file__).resolve().parents[1]
HOST: Final = "127.0.0.1"
READY_SECONDS: Final = 60.0
MIB: Final = 2**20

CPUS: Final = sorted(os.sched_getaffinity(0))
MEASURED: Final = CPUS[:1]
"""Where the process under test runs, alone."""
OTHERS: Final = CPUS[1:2] or CPUS
"""Where load generator and engines run."""


def pin(pid: int, cpus: Iterable[int]) -> None:
    """Put a process, its threads and its children on these cores."""
    wanted = set(cpus)
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            for thread in Path(f"/proc/{process.pid}/task").iterdir():
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread.name), wanted)


class Subject:
    """A process that is measured."""

    def __init__(self, process: ManagedProcess, port: int | None = None) -> None:
        self._process = process
        self.port = port or 0
        """Where it listens."""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def cpu_seconds(self) -> float:
        """User and system time of all its threads so far, to the nanosecond.

        Its CPU clock is the number that clock_getcpuclockid(3) makes; /proc/PID/stat counts in 10 ms.
        """
        return time.clock_gettime_ns((~self.pid << 3) | 2) / 1e9

    @property
    def resident_mib(self) -> float:
        """VmRSS."""
        return psutil.Process(self.pid).memory_info().rss / MIB

    def check(self) -> None:
        """Raise if it has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(f"the process has ended:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """What it said last."""
        return self._process.log_tail(40)

    def stop(self, timeout: float = 10.0) -> None:
        self._process.stop(timeout)


class Stage:
    """Engines and processes of one measurement; a context manager."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.folder = Path()
        self.environment: dict[str, str] = {}
        self._started = 0

    def __enter__(self) -> Self:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
        with contextlib.ExitStack() as stack:
            self.folder = Path(tempfile.mkdtemp(prefix="fleek-bench-"))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            engines = stack.enter_context(Engines(self.folder, durable=True))
            self._engines = [child.pid for child in psutil.Process().children()]
            # `PYTHONDONTWRITEBYTECODE` and other habits of a developer's shell are left behind.
            self.environment = {
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "PYTHONPATH": str(ROOT),
                "LOG_LEVEL": "INFO",
                **engines.environment(),
            }
            self._prepare()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def dsn(self) -> str:
        return self.environment["DATABASE_URL"]

    def pin_engines(self, cpus: Sequence[int]) -> None:
        for pid in self._engines:
            pin(pid, cpus)

    def serve(self, app: str, *, cpus: Sequence[int], variables: Mapping[str, str] | None = None) -> Subject:
        """Start an ASGI application as a single process and wait until it answers."""
        port = free_port()
        options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
        subject = self.run(
            ["-m", "uvicorn", app, "--host", HOST, "--port", str(port), *options],
            cpus=cpus,
            variables={"PUBLIC_URL": f"http://{HOST}:{port}", **(variables or {})},
            port=port,
        )
        wait_for(lambda: _listens(port), subject)
        return subject

    def worker(self, *, cpus: Sequence[int], variables: Mapping[str, str] | None = None) -> Subject:
        """Start a worker as in production; it registers by itself, see `registered_workers`."""
        options = ["--loglevel", "warning", "--without-gossip", "--without-mingle", "-n", f"w{self._started}@b"]
        return self.run(["-m", "celery", "-A", "app.tasks.celery", "worker", *options], cpus=cpus, variables=variables)

    def run(
        self,
        arguments: Sequence[str],
        *,
        cpus: Sequence[int],
        variables: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> Subject:
        """Start Python with these arguments, in the temp folder so that no `.env` of ours is read."""
        self._started += 1
        process = ManagedProcess(
            Command(
                argv=[sys.executable, *arguments],
                environment=self.environment | dict(variables or {}),
                folder=self.folder,
                log=self.folder / f"process-{self._started}.log",
            )
        )
        self._stack.callback(process.stop)
        pin(process.pid, cpus)
        return Subject(process, port)

    def _prepare(self) -> None:
        """Migrate the database and make the bucket."""
        subprocess.run(
            [sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), "upgrade", "head"],
            env=self.environment,
            cwd=self.folder,
            check=True,
            timeout=60,
            capture_output=True,
        )
        known = {name.lower(): value for name, value in self.environment.items()}
        asyncio.run(S3Store(Settings(**known)).prepare())  # type: ignore[arg-type]


def wait_for(condition: Callable[[], bool], subject: Subject, seconds: float = READY_SECONDS) -> None:
    """Wait until the condition holds, as long as the process lives."""
    deadline = time.monotonic() + seconds
    while not condition():
        subject.check()
        if time.monotonic() > deadline:
            raise TimeoutError("the process is not ready in time")
        time.sleep(0.05)


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
