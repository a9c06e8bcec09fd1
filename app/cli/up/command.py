"""`fleek up`: everything on one machine, started in order, watched, stopped in order.

1. Check that the settings are valid and the port is free. Nothing has been touched yet.
2. Lock the data folder: the kernel releases the lock when this process ends, however it ends.
3. Start the engines, then prepare schema and bucket at the same time, then start API and workers. A failure or Ctrl-C
   stops everything that runs. After a SIGKILL the children end by themselves (parent-death signal), and the next start
   finds the data as after any crash.
4. When everything answers, print the addresses and supervise the processes.
"""

import contextlib
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from app.cli.bind_address import BindAddress
from app.cli.console import complain, one_line, quoted, say, verdict
from app.cli.environment import (
    addresses,
    children_environment,
    external_engine_variable,
    real_variables,
    write_env_file,
)
from app.cli.errors import CommandError, StopRequest
from app.cli.up.banner import show_banner, warn_of_exposure
from app.cli.up.processes import Child, SupervisedEngine
from app.cli.up.programs import Programs
from app.cli.up.readiness import Readiness
from app.cli.up.signals import StopSignals
from app.cli.up.supervisor import Supervisor
from app.core.config import Settings
from app.core.errors import SettingsError
from app.core.load_settings import load_settings
from app.embedded.engines import ALL, SEAWEED, Engines
from app.embedded.errors import EmbeddedError
from app.embedded.lock import DataFolderLock

CHILDREN_SECONDS: Final = 7.0
"""How long API and workers may take to stop by themselves."""
ALL_SECONDS: Final = 9.0
"""How long after the stop request the engines are killed as well."""
ENGINES_SECONDS: Final = 2.0
"""How long the engines may take at least."""
POLL_SECONDS: Final = 0.03
PORT_WAIT_SECONDS: Final = 8.0
"""How long to wait for the port if the last `fleek up` was killed: its API may still be stopping."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command line."""

    host: str
    port: int
    data: Path
    workers: int


def run(options: Options) -> int:
    """Run until interrupted; the exit status."""
    with StopSignals() as signals:
        try:
            Up(options, signals).run()
        except StopRequest:
            return 0
        except SettingsError as error:
            complain(f"invalid setting: {one_line(error)}")
        except (CommandError, EmbeddedError, OSError) as error:
            complain(one_line(error))
    return 1


class Up:
    """One run of `fleek up`."""

    def __init__(self, options: Options, signals: StopSignals) -> None:
        self._options = options
        self._signals = signals
        self._address = BindAddress(options.host, options.port)
        self._env_file = options.data / "env"
        self._real = real_variables()
        embedded = [engine for engine in ALL if external_engine_variable(engine, self._real) is None]
        self._own_s3 = SEAWEED in embedded
        self._engines = Engines(options.data.absolute(), only=embedded)
        self._children: list[Child] = []

    def run(self) -> None:
        """Start, supervise, stop; always ends with an exception, after everything has been stopped.

        Raises:
            CommandError, SettingsError, EmbeddedError, OSError: Something could not be started.
            StopRequest: The user stopped it.
        """
        settings = load_settings()
        left_behind = self._env_file.exists()
        if not left_behind:  # otherwise one may be running: then the folder is reported as in use, not the port
            self._address.check()
        with _locked(self._options.data):
            if left_behind:
                self._address.check(wait_seconds=PORT_WAIT_SECONDS)
            try:
                self._start(settings)
                engines = [SupervisedEngine(engine) for engine in self._engines.chosen]
                Supervisor([*engines, *self._children]).watch()
            finally:
                self._stop()

    def _start(self, settings: Settings) -> None:
        started = time.monotonic()
        data = self._options.data
        say(f"Fleek {version('fleek')} is starting in {quoted(data)}")
        self._start_engines()
        found = addresses(self._real, self._engines.environment(), settings, self._address.url)
        write_env_file(self._env_file, found)
        logs = data.absolute() / "logs"
        logs.mkdir(mode=0o700, exist_ok=True)
        environment = children_environment(found, settings, own_s3=self._own_s3, exposed=self._address.exposed)
        environment |= self._address.allowed_hosts(settings)
        programs = Programs(environment=environment, logs=logs, signals=self._signals)
        with _timed("schema and bucket"):
            self._run_helpers([programs.migration(), programs.bucket()])
        notes = self._start_services(programs, found["DATABASE_URL"])
        say(f"Ready after {time.monotonic() - started:.1f} s.")
        say()
        show_banner(found, self._real, bucket=settings.bucket_name, data=data)
        if self._address.exposed:
            warn_of_exposure(found, self._real)
        for note in notes:
            say(f"Note: {note} (fleek doctor shows details)")

    def _start_engines(self) -> None:
        names = [engine.name for engine in reversed(self._engines.chosen)]
        if names:
            with _timed(", ".join(names)):
                self._engines.start()

    def _run_helpers(self, helpers: Sequence[Child]) -> None:
        """Run helpers at the same time and wait until all have succeeded."""
        self._children = [*helpers]
        for helper in helpers:
            helper.start()
        while any(helper.alive for helper in helpers):
            time.sleep(POLL_SECONDS)
        for helper in helpers:
            if helper.status != 0:
                raise CommandError(f"{helper.name} failed: {verdict(helper.output())} (log: {quoted(helper.log)})")

    def _start_services(self, programs: Programs, dsn: str) -> list[str]:
        """Start API and workers and wait until they are ready; notes on failed checks that do not prevent serving."""
        api = programs.api(self._address)
        workers = [programs.worker(number + 1) for number in range(self._options.workers)]
        self._children = [api, *workers]
        with _timed("API and worker" if len(workers) == 1 else f"API and {len(workers)} workers"):
            for child in self._children:
                child.start()
            readiness = Readiness(self._address.address, dsn, api, workers)
            try:
                readiness.wait()
            except CommandError:
                if not api.alive:
                    self._address.check()  # another process may have taken the port meanwhile
                raise
        return readiness.notes

    def _stop(self) -> None:
        started = time.monotonic()
        say()
        say("Stopping ...")
        try:
            killed = self._stop_gracefully(started)
        except StopRequest:
            say("Stopping at once.")
            self._signals.ignore()
            self._kill_children()
            self._engines.stop(0)
            killed = []
        with contextlib.suppress(OSError):
            self._env_file.unlink(missing_ok=True)
        if killed:
            say(f"Killed: {', '.join(killed)}.")
        say(f"Stopped after {time.monotonic() - started:.1f} s.")

    def _stop_gracefully(self, started: float) -> list[str]:
        """Stop the children first, since a stopping worker returns its jobs to the queue; the names of those killed."""
        for child in self._children:
            child.request_stop()
        while any(child.alive for child in self._children) and time.monotonic() < started + CHILDREN_SECONDS:
            time.sleep(POLL_SECONDS)
        killed = self._kill_children()
        self._engines.stop(max(ENGINES_SECONDS, started + ALL_SECONDS - time.monotonic()))
        return killed

    def _kill_children(self) -> list[str]:
        alive = [child for child in self._children if child.alive]
        for child in alive:
            child.kill()
        return [child.name for child in alive]


@contextlib.contextmanager
def _locked(data: Path) -> Generator[None]:
    lock = DataFolderLock(data)
    try:
        lock.acquire()
    except OSError as error:
        raise CommandError(
            f"the data folder {quoted(data)} cannot be used: {error.strerror}; choose another with --data"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _timed(step: str) -> Generator[None]:
    started = time.monotonic()
    yield
    say(f"  {step:<34}{time.monotonic() - started:5.1f} s")
