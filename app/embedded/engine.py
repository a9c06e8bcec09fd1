"""What all embedded engines have in common: one data folder, one process, start and stop."""

import math
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from app.embedded.errors import EngineStartError
from app.embedded.facts import Facts
from app.embedded.lock import FileLock
from app.embedded.process import Command, ManagedProcess, free_port, port_is_usable

LAUNCHES = 4
"""How often it is launched when others take its ports first."""
PAUSE_SECONDS = 0.02


class Engine(ABC):
    """A real server in a child process, listening on 127.0.0.1 only.

    `start` on a folder that was used before finds the same data, secrets and, if they are
    free, ports. The child holds a lock on the folder as long as it lives, so that a start
    right after a crash waits until the engine of the crashed parent is gone.
    """

    name: ClassVar[str]
    """As people call it."""
    port_names: ClassVar[tuple[str, ...]]
    """What it listens on; the first is the one clients use."""
    twins: ClassVar[bool] = False
    """Whether each port needs the one 10,000 above it, too."""
    ready_within: ClassVar[float] = 60.0
    """Seconds after which a start has failed."""
    stops_within: ClassVar[float] = math.inf
    """Seconds after which it is ended by force, at the latest; what it acknowledged survives that, too."""
    leaves_within: ClassVar[float] = 20.0
    """Seconds a start waits for the engine of a parent that has just died."""

    def __init__(self, data: Path, *, port: int | None = None, durable: bool = True) -> None:
        """Prepare it; nothing is started or written yet.

        Args:
            data: Its folder, made when missing, for this engine alone.
            port: Where clients should find it; when taken, it listens elsewhere.
            durable: Whether what it acknowledged must survive; tests are faster without.
        """
        self.data = data.absolute()
        self.durable = durable
        self._wish = port
        self._facts = Facts()
        self._process: ManagedProcess | None = None
        self._lock = FileLock(self.data / "engine.lock")
        self._launches = 0

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def port(self) -> int:
        """Where clients find it; known once it was launched."""
        return self._facts.ports[self.port_names[0]]

    @property
    def pid(self) -> int | None:
        """Of its process, if it was launched."""
        return None if self._process is None else self._process.pid

    @property
    def exit_status(self) -> int | None:
        """How its process ended, a signal as a negative number; None while it runs or when it was stopped."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start it and return when it is ready; an engine that runs already is left alone.

        Raises:
            EngineMissingError: Its wheel is not installed.
            EngineStartError: It did not become ready.
            DataFolderInUseError: Another process runs an engine on this folder.
        """
        self.launch()
        self.await_ready()

    def launch(self) -> None:
        """The first half of `start`: its process runs, but need not answer yet."""
        if self.alive:
            return
        self._launches = 0
        self._launch()

    def await_ready(self) -> None:
        """The second half of `start`: block until it answers; if it never does, it is stopped."""
        deadline = time.monotonic() + self.ready_within
        try:
            while not self._is_ready(deadline):
                time.sleep(PAUSE_SECONDS)
        except BaseException:
            self.stop()
            raise

    def request_stop(self) -> None:
        """Ask it to end and return at once."""
        if self._process is not None:
            self._process.request_stop()

    def stop(self, timeout: float = 10.0) -> None:
        """End it, at worst by force; nothing happens when it does not run."""
        if self._process is not None:
            self._process.stop(min(timeout, self.stops_within))
            self._process = None
            self._tidy()

    @abstractmethod
    def _prepare(self, facts: Facts) -> None:
        """Make its files; called before each launch, while the folder is locked."""

    @abstractmethod
    def _command(self, facts: Facts) -> Command:
        """What to run."""

    @abstractmethod
    def _probe(self) -> bool:
        """Whether it answers; called until it does."""

    def _tidy(self) -> None:  # noqa: B027 (few need it)
        """Remove what it leaves outside its folder."""

    def _launch(self) -> None:
        self._launches += 1
        try:
            self._lock.acquire(patience=self.leaves_within)
            self._facts = self._remember()
            self._prepare(self._facts)
            self._process = ManagedProcess(self._command(self._facts), inherited=[self._lock.descriptor])
            self._lock.sign(self._process.pid)
        except (OSError, ValueError) as error:
            raise EngineStartError(self.name, str(error)) from error
        finally:
            # the child keeps it
            self._lock.close()

    def _remember(self) -> Facts:
        """The ports and secrets of the last start, completed and written down again."""
        path = self.data / "engine.json"
        facts = Facts.read(path)
        if self._wish is not None:
            facts.ports[self.port_names[0]] = self._wish
        taken: set[int] = set()
        for name in self.port_names:
            facts.ports[name] = self._port(facts.ports.get(name), taken)
            taken.add(facts.ports[name])
        self._invent(facts.secrets)
        facts.write(path)
        return facts

    def _invent(self, known: dict[str, str]) -> None:  # noqa: B027 (few need it)
        """Add the secrets that are not known yet."""

    def _port(self, old: int | None, taken: set[int]) -> int:
        port = old
        while port is None or port in taken or not port_is_usable(port, twin=self.twins):
            port = free_port(twin=self.twins)
        return port

    def _is_ready(self, deadline: float) -> bool:
        """Whether it answers; an engine that lost its port to somebody else is launched again."""
        process = self._process
        if process is None:
            raise EngineStartError(self.name, "it was not launched")
        status = process.poll()
        if status is None:
            if time.monotonic() > deadline:
                reason = f"not ready after {self.ready_within:.0f} s"
                raise EngineStartError(self.name, reason, process.log_tail())
            # somebody else may have answered on a port that this one could not get
            return self._probe() and process.poll() is None
        lost_port = any(not port_is_usable(port, twin=self.twins) for port in self._facts.ports.values())
        if not lost_port or self._launches == LAUNCHES:
            raise EngineStartError(self.name, f"it ended with status {status}", process.log_tail())
        self._wish = None
        self._launch()
        return False
