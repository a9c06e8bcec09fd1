"""The base class of embedded engines: one data folder, one process, start and stop."""

import math
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from app.embedded.errors import EngineStartError
from app.embedded.lock import FileLock
from app.embedded.process import Command, ManagedProcess, free_port, port_is_usable
from app.embedded.state import EngineState

MOST_LAUNCHES = 4
"""Launches before giving up when other processes take its ports first."""
PAUSE_SECONDS = 0.02


class Engine(ABC):
    """A real server in a child process, listening on 127.0.0.1 only.

    `start` on a folder that was used before finds the same data and secrets and, if they are
    free, uses the same ports. The child holds a lock on the folder as long as it lives, so
    that a start right after a crash waits until the engine of the crashed parent is gone.
    """

    name: ClassVar[str]
    """Its name in messages."""
    port_names: ClassVar[tuple[str, ...]]
    """Its services, each on a port of its own; the first is the one clients use."""
    twins: ClassVar[bool] = False
    """Whether each port also needs its twin, the port 10,000 above it."""
    start_seconds: ClassVar[float] = 60.0
    """Timeout for becoming ready."""
    stop_seconds: ClassVar[float] = math.inf
    """Time after which it is killed at the latest; acknowledged data survives that too."""
    lock_wait_seconds: ClassVar[float] = 20.0
    """How long a start waits for the engine of a parent that has just died."""

    def __init__(self, data: Path, *, port: int | None = None, durable: bool = True) -> None:
        """Create it; nothing is started or written yet.

        Args:
            data: Its folder, made when missing, for this engine single_user.
            port: The preferred port for clients; if it is taken, another one is used.
            durable: Whether acknowledged data must survive a crash; False is faster.
        """
        self.data = data.absolute()
        self.durable = durable
        self._requested_port = port
        self._state = EngineState()
        self._process: ManagedProcess | None = None
        self._lock = FileLock(self.data / "engine.lock")
        self._launches = 0

    @property
    def alive(self) -> bool:
        """Whether its process is running."""
        return self._process is not None and self._process.poll() is None

    @property
    def port(self) -> int:
        """The port for clients; known once it was launched."""
        return self._state.ports[self.port_names[0]]

    @property
    def pid(self) -> int | None:
        """The id of its process; None: not launched."""
        return None if self._process is None else self._process.pid

    @property
    def exit_status(self) -> int | None:
        """The exit status, a signal as a negative number; None while it runs or after `stop`."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start it and return when it is ready; a running engine is left alone.

        Raises:
            EngineMissingError: Its wheel is not installed.
            EngineStartError: It did not become ready.
            DataFolderInUseError: Another process runs an engine on this folder.
        """
        self.launch()
        self.await_ready()

    def launch(self) -> None:
        """The first half of `start`: start the process without waiting until it answers."""
        if self.alive:
            return
        self._launches = 0
        self._launch()

    def await_ready(self) -> None:
        """The second half of `start`: wait until it answers; on failure, stop it."""
        deadline = time.monotonic() + self.start_seconds
        try:
            while not self._is_ready(deadline):
                time.sleep(PAUSE_SECONDS)
        except BaseException:
            self.stop()
            raise

    def request_stop(self) -> None:
        """Ask it to stop and return at once."""
        if self._process is not None:
            self._process.request_stop()

    def stop(self, timeout: float = 10.0) -> None:
        """Stop it, killing it after `timeout` seconds; without effect if it is not running."""
        if self._process is not None:
            self._process.stop(min(timeout, self.stop_seconds))
            self._process = None
            self._clean_up()

    @abstractmethod
    def _prepare(self, state: EngineState) -> None:
        """Create its files; called before each launch, while the folder is locked."""

    @abstractmethod
    def _command(self, state: EngineState) -> Command:
        """The command to run."""

    @abstractmethod
    def _probe(self) -> bool:
        """Whether it answers; called until it does."""

    def _clean_up(self) -> None:  # noqa: B027 (few need it)
        """Remove the files it leaves outside its folder."""

    def _launch(self) -> None:
        self._launches += 1
        try:
            self._lock.acquire(wait_seconds=self.lock_wait_seconds)
            self._state = self._load_state()
            self._prepare(self._state)
            self._process = ManagedProcess(self._command(self._state), inherited=[self._lock.descriptor])
            self._lock.write_holder(self._process.pid)
        except (OSError, ValueError) as error:
            raise EngineStartError(self.name, str(error)) from error
        finally:
            # the child holds it now
            self._lock.close()

    def _load_state(self) -> EngineState:
        """Load ports and secrets of the last start, complete them, and save them."""
        path = self.data / "engine.json"
        state = EngineState.read(path)
        if self._requested_port is not None:
            state.ports[self.port_names[0]] = self._requested_port
        taken: set[int] = set()
        for name in self.port_names:
            state.ports[name] = self._port(state.ports.get(name), taken)
            taken.add(state.ports[name])
        self._create_secrets(state.secrets)
        state.write(path)
        return state

    def _create_secrets(self, known: dict[str, str]) -> None:  # noqa: B027 (few need it)
        """Add missing secrets."""

    def _port(self, old: int | None, taken: set[int]) -> int:
        port = old
        while port is None or port in taken or not port_is_usable(port, twin=self.twins):
            port = free_port(twin=self.twins)
        return port

    def _is_ready(self, deadline: float) -> bool:
        """Whether it answers; an engine that lost its port to another process is launched again."""
        process = self._process
        if process is None:
            raise EngineStartError(self.name, "it was not launched")
        status = process.poll()
        if status is None:
            if time.monotonic() > deadline:
                reason = f"not ready after {self.start_seconds:.0f} s"
                raise EngineStartError(self.name, reason, process.log_tail())
            # the answer may have come from another process that took the port
            return self._probe() and process.poll() is None
        lost_port = any(not port_is_usable(port, twin=self.twins) for port in self._state.ports.values())
        if not lost_port or self._launches == MOST_LAUNCHES:
            raise EngineStartError(self.name, f"it ended with status {status}", process.log_tail())
        self._requested_port = None
        self._launch()
        return False
