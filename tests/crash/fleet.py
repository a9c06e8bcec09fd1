"""The product as a fleet of processes that can be killed one by one: simulator, API and workers.

The engines are somebody else's. Everything started here is ended here, by pid, and dies with its parent.
"""

import asyncio
import contextlib
import itertools
import math
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Self

import asyncpg
import httpx2

from app.core.database.migrations import ROOT
from app.embedded.process import Command, ManagedProcess
from tests.fork_server import ForkServer
from tests.support import listening_socket

PLUGIN: Final = Path(__file__).with_name("plugin")
CATALOGUE: Final = Path(__file__).with_name("catalogue.toml")
PATIENCE_SECONDS: Final = 100.0
REQUEST_SECONDS: Final = 10.0
TICK: Final = 0.05
LOOKS_AT_ONCE: Final = 4
LOOK_TAKES_AT_MOST: Final = 60.0
LOOK_SECONDS: Final = 0.1
"""Between two looks at the database, which is slower to ask."""


class DatabaseAwayError(Exception):
    """The database gave no answer."""


def pace() -> dict[str, str]:
    """The settings of a fleet in which death is an everyday matter."""
    return {
        "LEASE_SECONDS": "2",
        "CLAIM_INTERVAL_SECONDS": "0.2",
        "RETRY_BASE_SECONDS": "0.05",
        "RETRY_MAX_SECONDS": "2",
        "SHUTDOWN_SECONDS": "3",
        "MAX_TRIES": "100",
        "MAX_TAKEOVERS": "100000",
        "RECONCILE_SECONDS": "5",
        "DATABASE_CONNECTIONS": "8",
        "LOG_LEVEL": "WARNING",
    }


class ForkedProcess(ManagedProcess):
    """The same, forked by a fork server."""

    def __init__(self, fork_server: ForkServer, command: Command, inherited: Sequence[int]) -> None:
        self._command = command
        self._stop_requested = False
        with command.log.open("ab") as log:
            self._log_start = log.tell()
        self._process = fork_server.fork(
            command.argv[2:],
            environment=command.environment,
            folder=command.folder,
            log=command.log,
            hand_over=inherited,
        )


class Fleet:
    """An async context manager; the simulator and the API run as long as it does."""

    def __init__(
        self,
        engines: Mapping[str, str],
        folder: Path,
        fork_server: ForkServer | None = None,
        *,
        simulator: Sequence[str] = (),
    ) -> None:
        """Choose where; nothing runs yet.

        Args:
            engines: The variables that lead to migrated engines with a bucket, with BUCKET_NAME.
            folder: For logs.
            fork_server: Who starts the processes; None: they are started as an operator does.
            simulator: Its options: which troubles it draws.
        """
        self._folder = folder
        self._fork_server = fork_server
        self._numbers = itertools.count(1)
        self._stack = AsyncExitStack()
        self._sockets = [listening_socket(backlog=512) for _ in range(2)]
        # Bound by us for as long as the fleet lives: what is killed comes back at the same address.
        simulator_url, api = (f"http://127.0.0.1:{one.getsockname()[1]}" for one in self._sockets)
        self.dsn = engines["DATABASE_URL"]
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(PLUGIN),
            "CATALOGUE_FILE": str(CATALOGUE),
            "CALLBACK_URL": api,
            "REPLICATE_BASE_URL": f"{simulator_url}/v1",
            "FAL_BASE_URL": f"{simulator_url}/queue",
            "FAL_JWKS_URL": f"{simulator_url}/queue/keys",
            **pace(),
            **engines,
            "SIMULATOR_URL": simulator_url,
            "PUBLIC_URL": api,
        }
        self.web = httpx2.AsyncClient(base_url=api, timeout=REQUEST_SECONDS, trust_env=False)
        self._simulator_url = simulator_url
        self._simulator_options = tuple(simulator)
        self.api: ManagedProcess | None = None
        self.workers: list[ManagedProcess] = []

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for one in self._sockets:
                stack.callback(one.close)
            await stack.enter_async_context(self.web)
            # Kept: a new connection for each look costs the database a process, many times a second.
            self._looks = await asyncpg.create_pool(self.dsn, min_size=0, max_size=LOOKS_AT_ONCE, timeout=5)
            stack.callback(self._looks.terminate)
            stack.callback(self._end_all)
            number = self._sockets[0].fileno()
            options = ("--fd", str(number), *self._simulator_options)
            self._simulator = self._run("tests.crash.simulator", *options, inherited=[number])
            self.start_api()
            await eventually(self.answers)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._stack.aclose()

    def start_api(self, point: str | None = None, after: int = 1) -> None:
        """Start the API, in place of one that has died."""
        number = self._sockets[1].fileno()
        options = ("--fd", str(number), "--no-access-log", "--log-level", "warning")
        changes = {"CRASH_AT": point, "CRASH_AFTER": str(after)} if point else {}
        self.api = self._run("uvicorn", "tests.crash.fleet_api:app", *options, inherited=[number], changes=changes)

    def start_worker(self, point: str | None = None, *, after: int = 1, **changes: str) -> ManagedProcess:
        """Start a worker; with a point it dies there, the time it comes by for the `after`th time."""
        if point is not None:
            changes |= {"CRASH_AT": point, "CRASH_AFTER": str(after)}
        name = f"w{next(self._numbers)}@%h"
        options = ("-A", "tests.crash.fleet_worker", "worker", "-l", "WARNING", "-n", name)
        worker = self._run("celery", *options, changes=changes)
        self.workers.append(worker)
        return worker

    async def start_doomed(self, point: str, *, after: int = 1) -> ManagedProcess:
        """A worker that is at work, and is to die; its lease is too long for others to touch what it leaves behind."""
        worker = self.start_worker(point, after=after, LEASE_SECONDS="3600")
        await eventually(self.registered, lambda pids: worker.pid in pids)
        return worker

    def end_workers(self) -> None:
        """Kill those that are left."""
        for worker in self.workers:
            kill(worker)
        self.workers.clear()

    async def answers(self) -> bool:
        """Whether the API does."""
        try:
            return (await self.web.get("/tools/status")).status_code == 200
        except httpx2.TransportError:
            return False

    async def books(self) -> dict[str, Any]:
        """What the simulator says was bought."""
        return (await self.web.get(f"{self._simulator_url}/stats", timeout=60)).json()

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Rows from the database; connections that an outage has broken are left behind.

        Raises:
            DatabaseAwayError: It gives none now, whatever the driver says of that.
        """
        try:
            async with asyncio.timeout(LOOK_TAKES_AT_MOST):
                return await self._looks.fetch(query, *arguments)
        except (asyncpg.SyntaxOrAccessError, asyncpg.DataError, asyncpg.IntegrityConstraintViolationError):
            raise
        except Exception as error:
            # asyncpg has many: InternalClientError is none of its own base classes.
            raise DatabaseAwayError(repr(error)) from error

    async def fetch_surely(
        self, query: str, *arguments: Any, seconds: float = PATIENCE_SECONDS
    ) -> list[asyncpg.Record]:
        """The same, as soon as the database is there.

        Raises:
            DatabaseAwayError: It has been away for that long.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                return await self.fetch(query, *arguments)
            except DatabaseAwayError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(LOOK_SECONDS)

    async def registered(self) -> set[int]:
        """The pids of the workers that are at work; those of the dead stay until they are buried."""
        rows = await self.fetch("SELECT name FROM workers")
        return {int(row["name"].rpartition("/")[2]) for row in rows}

    def logs(self) -> str:
        """What all processes said, the end of it."""
        texts = (f"== {path.name}\n{path.read_text(errors='replace')[-4000:]}" for path in self._folder.glob("*.log"))
        return "\n".join(texts)

    def _run(
        self,
        module: str,
        *arguments: str,
        inherited: list[int] | None = None,
        changes: Mapping[str, str] | None = None,
    ) -> ManagedProcess:
        command = Command(
            argv=[sys.executable, "-m", module, *arguments],
            environment={**self.environment, **(changes or {})},
            folder=ROOT,
            log=self._folder / f"{module.rpartition('.')[2]}.log",
            orphan_signal=signal.SIGKILL,
        )
        if self._fork_server is not None:
            return ForkedProcess(self._fork_server, command, inherited or [])
        return ManagedProcess(command, inherited=inherited or [])

    def _end_all(self) -> None:
        self.end_workers()
        for one in (self.api, getattr(self, "_simulator", None)):
            if one is not None:
                kill(one)


def kill(process: ManagedProcess) -> None:
    """End it without a warning, and wait until it is gone."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    process.stop()


async def until(true: Callable[[], object], *, seconds: float = math.inf) -> bool:
    """Wait for something outside this process; False: it took longer than that."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(TICK)
    return True


async def eventually(
    look: Callable[[], Awaitable[Any]],
    good: Callable[[Any], Any] = bool,
    *,
    seconds: float = PATIENCE_SECONDS,
    pause: float = LOOK_SECONDS,
) -> Any:
    """What `look` answers, once it is `good`."""
    deadline = time.monotonic() + seconds
    seen: Any = "nothing"
    while True:
        with contextlib.suppress(DatabaseAwayError):
            seen = await look()
            if good(seen):
                return seen
        assert time.monotonic() < deadline, f"never came true in {seconds:.0f} s; last seen: {seen}"
        await asyncio.sleep(pause)
