"""The processes that `fleek up` keeps alive: engines, the API and workers, behind one protocol."""

import signal
from pathlib import Path
from typing import Protocol

from app.cli.up.signals import StopSignals
from app.embedded.engine import Engine
from app.embedded.errors import EngineStartError
from app.embedded.process import Command, ManagedProcess, port_is_usable


class Supervised(Protocol):
    """A process that is restarted when it dies."""

    @property
    def name(self) -> str:
        """Its name in messages."""
        ...

    @property
    def log(self) -> Path:
        """The file or folder that holds its output."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it is running."""
        ...

    @property
    def exit_reason(self) -> str:
        """How it ended, in words."""
        ...

    def restart(self) -> None:
        """Start it again at the same address.

        Raises:
            EmbeddedError, OSError: It does not start.
        """
        ...


class Child:
    """A Python process of Fleek."""

    def __init__(self, name: str, command: Command, signals: StopSignals) -> None:
        self.name = name
        self.log = command.log
        self._command = command
        self._signals = signals
        self._process: ManagedProcess | None = None

    @property
    def alive(self) -> bool:
        """See `Supervised.alive`."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_reason(self) -> str:
        """See `Supervised.exit_reason`."""
        return describe_exit(self.status)

    @property
    def status(self) -> int | None:
        """Its exit status, a signal as a negative number; None while it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def pid(self) -> int | None:
        """Its process id; None before the start."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it and return at once."""
        with self._signals.held():  # an interrupt here would leave it running unnoticed
            self._process = ManagedProcess(self._command)

    restart = start

    def request_stop(self) -> None:
        """Ask it to stop and return at once."""
        if self._process is not None:
            self._process.request_stop()

    def kill(self) -> None:
        """Kill it, if it still runs."""
        if self._process is not None:
            self._process.stop(0)

    def output(self) -> str:
        """The last lines of output since it was started."""
        return "" if self._process is None else self._process.log_tail(40)


class SupervisedEngine:
    """An embedded engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.name

    @property
    def log(self) -> Path:
        """See `Supervised.log`; the engine's folder, which holds the log."""
        return self._engine.data

    @property
    def alive(self) -> bool:
        """See `Supervised.alive`."""
        return self._engine.alive

    @property
    def exit_reason(self) -> str:
        """See `Supervised.exit_reason`."""
        return describe_exit(self._engine.exit_status)

    def restart(self) -> None:
        """See `Supervised.restart`; only on the same port, where API and workers look for it."""
        port = self._engine.port
        self._engine.stop()
        if not port_is_usable(port, twin=self._engine.twins):
            raise EngineStartError(self.name, f"its port {port} is taken")
        self._engine.start()


def describe_exit(status: int | None) -> str:
    """An exit status in words."""
    if status is None:
        return "no longer running"
    if status >= 0:
        return f"exit code {status}"
    number = -status
    known = {member.value: member.name for member in signal.Signals}
    return f"killed by signal {number}" + (f", {known[number]}" if number in known else "")
