"""Child processes that end with their parent and write a log, and the ports they may listen on."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LOOPBACK = "127.0.0.1"
ANY_ADDRESS = "0.0.0.0"
PORTS = range(12_000, 22_000)
"""Below the ephemeral ports of Linux and macOS, twins included."""
TWIN = 10_000
"""SeaweedFS expects the gRPC twin of a port this far above it."""

LOG_LIMIT = 10 * 2**20
"""A larger log is rotated at the next start; one old log is kept."""
STOP_SECONDS = 10.0
FORCED_STOP_SECONDS = 5.0
"""How long to wait after each signal but the first."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run and how to stop it."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    """The complete environment: nothing is inherited."""
    folder: Path
    log: Path
    """Where its output is appended."""
    signals: Sequence[signal.Signals] = (signal.SIGTERM,)
    """Sent in this order to stop it; SIGKILL follows."""
    orphan_signal: signal.Signals | None = None
    """Sent when the parent dies; None: the first of `signals`."""
    privileges: Sequence[str] = field(default=())
    """Options for `setpriv` that drop root privileges."""


class ManagedProcess:
    """A running child in a session of its own, so that Ctrl-C in the terminal reaches only the parent."""

    def __init__(self, command: Command, *, inherited: Sequence[int] = ()) -> None:
        """Start it.

        Args:
            command: What to run.
            inherited: Open files that it inherits.
        """
        if threading.current_thread() is not threading.main_thread():
            # Linux sends the parent-death signal when the thread that forked ends
            raise RuntimeError("engines are started from the main thread")
        self._command = command
        self._stop_requested = False
        _rotate(command.log)
        with command.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(  # noqa: S603 (our own engines)
                [*_wrapper(command), *command.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=command.folder,
                env=dict(command.environment),
                start_new_session=True,
                pass_fds=inherited,
            )

    @property
    def pid(self) -> int:
        """The process id of the program itself: a wrapper replaces itself (exec)."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._process.poll()

    def request_stop(self) -> None:
        """Send the first signal and return at once."""
        if not self._stop_requested:
            self._send(self._command.signals[0])
            self._stop_requested = True

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """Stop it: first signal, after `timeout` seconds the others, at last SIGKILL to its whole group."""
        self.request_stop()
        if self._ends_within(timeout):
            return
        for number in self._command.signals[1:]:
            self._send(number)
            if self._ends_within(FORCED_STOP_SECONDS):
                return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(FORCED_STOP_SECONDS)

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of its log since it was started."""
        with self._command.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - 2**14))
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _send(self, number: signal.Signals) -> None:
        if self.poll() is None:
            self._process.send_signal(number)

    def _ends_within(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now; connections in TIME_WAIT do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((host, port))
        except (OSError, OverflowError):
            return False
    return True


def port_is_usable(port: int, *, twin: bool = False) -> bool:
    """Whether the port, and its twin if it needs one, is free on every interface."""
    needed = (port, port + TWIN) if twin else (port,)
    return all(port_is_free(host, number) for number in needed for host in (LOOPBACK, ANY_ADDRESS))


def free_port(*, twin: bool = False) -> int:
    """A free port; with `twin`, the one 10,000 above it is free as well."""
    choice = random.SystemRandom()
    for _ in range(1000):
        port = choice.choice(PORTS)
        if port_is_usable(port, twin=twin):
            return port
    raise OSError(f"no free port between {PORTS[0]} and {PORTS[-1]}")


def _wrapper(command: Command) -> list[str]:
    """The prefix that makes a command die with its parent and run as another user."""
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    if setpriv is None:
        return []
    # changing the user clears the parent-death signal, so one call does both, in the right order
    number = command.orphan_signal or command.signals[0]
    return [setpriv, *command.privileges, f"--pdeathsig={number.name}", "--"]


def _rotate(log: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".old.log"))
