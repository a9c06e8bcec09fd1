"""What `fleek up` keeps alive: engines, the API, workers; alike for those who watch them."""

import signal
from pathlib import Path
from typing import Protocol

from app.cli.up.signals import StopSignals
from app.embedded.engine import Engine
from app.embedded.errors import EngineStartError
from app.embedded.process import Command, ManagedProcess, port_is_usable


class Member(Protocol):
    """One process that is started again when it dies."""

    @property
    def name(self) -> str:
        """As people call it."""
        ...

    @property
    def log(self) -> Path:
        """Where its output is."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        ...

    @property
    def fate(self) -> str:
        """How it ended."""
        ...

    def restart(self) -> None:
        """Start it again, where it was.

        Raises:
            EmbeddedError, OSError: It does not start.
        """
        ...


class Child:
    """A Python process of ours."""

    def __init__(self, name: str, command: Command, signals: StopSignals) -> None:
        self.name = name
        self.log = command.log
        self._command = command
        self._signals = signals
        self._process: ManagedProcess | None = None

    @property
    def alive(self) -> bool:
        """See `Member.alive`."""
        return self._process is not None and self._process.poll() is None

    @property
    def fate(self) -> str:
        """See `Member.fate`."""
        return how_it_ended(self.status)

    @property
    def status(self) -> int | None:
        """Its exit status, or the negative signal; None while it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def pid(self) -> int | None:
        """Its process."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it; nothing is waited for."""
        with self._signals.held():  # interrupted here, it would run and nobody would know
            self._process = ManagedProcess(self._command)

    restart = start

    def request_stop(self) -> None:
        """Ask it to end and return at once."""
        if self._process is not None:
            self._process.request_stop()

    def kill(self) -> None:
        """End it now, if it still runs."""
        if self._process is not None:
            self._process.stop(0)

    def output(self) -> str:
        """The last lines it wrote since it was started."""
        return "" if self._process is None else self._process.log_tail(40)


class EngineMember:
    """An embedded engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.name

    @property
    def log(self) -> Path:
        """See `Member.log`; its whole folder, in which the log lies."""
        return self._engine.data

    @property
    def alive(self) -> bool:
        """See `Member.alive`."""
        return self._engine.alive

    @property
    def fate(self) -> str:
        """See `Member.fate`."""
        return how_it_ended(self._engine.exit_status)

    def restart(self) -> None:
        """See `Member.restart`; on another port nobody would find it."""
        port = self._engine.port
        self._engine.stop()
        if not port_is_usable(port, twin=self._engine.twins):
            raise EngineStartError(self.name, f"its port {port} is taken")
        self._engine.start()


def how_it_ended(status: int | None) -> str:
    """An exit status in words."""
    if status is None:
        return "it is gone"
    if status >= 0:
        return f"exit code {status}"
    number = -status
    known = {member.value: member.name for member in signal.Signals}
    return f"killed by signal {number}" + (f", {known[number]}" if number in known else "")
