"""`fleek up`: everything on one machine, started in order, watched, stopped in order.

1. The settings are valid, the port is free. Nothing was touched yet.
2. The data folder is ours: the kernel keeps the lock until this process is gone, however it ends.
3. Engines, then schema and bucket at the same time, then API and workers. Whatever fails, and Ctrl-C, stops
   all that runs. After a SIGKILL the children end by themselves (parent-death signal), and the next start
   finds the data as after any crash.
4. When all answer, the addresses are printed and the members watched.
"""

import contextlib
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from app.cli.bind_address import Listening
from app.cli.console import complain, one_line, quoted, say, verdict
from app.cli.environment import addresses, children_environment, elsewhere, real_variables, write_env_file
from app.cli.errors import CommandError, StopRequest
from app.cli.up.banner import announce, warn_of_exposure
from app.cli.up.processes import Child, EngineMember
from app.cli.up.programs import Programs
from app.cli.up.readiness import Health
from app.cli.up.signals import StopSignals
from app.cli.up.supervisor import Supervisor
from app.core.config import Settings
from app.core.errors import SettingsError
from app.core.load_settings import load_settings
from app.embedded.engines import ALL, SEAWEED, Engines
from app.embedded.errors import EmbeddedError
from app.embedded.lock import DataFolderLock

CHILDREN_SECONDS: Final = 7.0
"""How long API and workers have to end by themselves."""
ALL_SECONDS: Final = 9.0
"""When after the wish to stop the engines are ended by force, too."""
ENGINES_SECONDS: Final = 2.0
"""What the engines have at least."""
GLANCE_SECONDS: Final = 0.03
PATIENCE_SECONDS: Final = 8.0
"""How long we wait for the port when the last `fleek up` was killed: its API may still be ending."""


@dataclass(frozen=True, slots=True)
class Options:
    """As given on the command line."""

    host: str
    port: int
    data: Path
    workers: int


def run(options: Options) -> int:
    """Run until it is interrupted; the exit status."""
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
        self._listening = Listening(options.host, options.port)
        self._env_file = options.data / "env"
        self._real = real_variables()
        embedded = [engine for engine in ALL if elsewhere(engine, self._real) is None]
        self._own_s3 = SEAWEED in embedded
        self._engines = Engines(options.data.absolute(), only=embedded)
        self._children: list[Child] = []

    def run(self) -> None:
        """Start, watch, stop; it ends by an exception only, when all is stopped again.

        Raises:
            CommandError, SettingsError, EmbeddedError, OSError: Something could not be started.
            StopRequest: The user wants an end.
        """
        settings = load_settings()
        killed = self._env_file.exists()
        if not killed:  # nor is one running there: a second one is told about the folder, not about the port
            self._listening.check()
        with _locked(self._options.data):
            if killed:
                self._listening.check(patience=PATIENCE_SECONDS)
            try:
                self._start(settings)
                engines = [EngineMember(engine) for engine in self._engines.chosen]
                Supervisor([*engines, *self._children]).watch()
            finally:
                self._stop()

    def _start(self, settings: Settings) -> None:
        begun = time.monotonic()
        data = self._options.data
        say(f"Fleek {version('fleek')} is starting in {quoted(data)}")
        self._start_engines()
        found = addresses(self._real, self._engines.environment(), settings, self._listening.url)
        write_env_file(self._env_file, found)
        logs = data.absolute() / "logs"
        logs.mkdir(mode=0o700, exist_ok=True)
        environment = children_environment(found, settings, own_s3=self._own_s3, exposed=self._listening.exposed)
        programs = Programs(environment=environment, logs=logs, signals=self._signals)
        with _timed("schema and bucket"):
            self._finish([programs.migration(), programs.bucket()])
        findings = self._start_services(programs, found["DATABASE_URL"])
        say(f"Ready after {time.monotonic() - begun:.1f} s.")
        say()
        announce(found, self._real, bucket=settings.bucket_name, data=data)
        if self._listening.exposed:
            warn_of_exposure(found, self._real)
        for finding in findings:
            say(f"Note: {finding} (fleek doctor says more)")

    def _start_engines(self) -> None:
        names = [engine.name for engine in reversed(self._engines.chosen)]
        if names:
            with _timed(", ".join(names)):
                self._engines.start()

    def _finish(self, helpers: Sequence[Child]) -> None:
        """Run helpers at the same time until all have succeeded."""
        self._children = [*helpers]
        for helper in helpers:
            helper.start()
        while any(helper.alive for helper in helpers):
            time.sleep(GLANCE_SECONDS)
        for helper in helpers:
            if helper.status != 0:
                raise CommandError(f"{helper.name} failed: {verdict(helper.output())} (log: {quoted(helper.log)})")

    def _start_services(self, programs: Programs, dsn: str) -> list[str]:
        """Start them; what is wrong all the same."""
        api = programs.api(self._listening)
        workers = [programs.worker(number + 1) for number in range(self._options.workers)]
        self._children = [api, *workers]
        with _timed("API and worker" if len(workers) == 1 else f"API and {len(workers)} workers"):
            for child in self._children:
                child.start()
            health = Health(self._listening.address, dsn, api, workers)
            try:
                health.wait()
            except CommandError:
                if not api.alive:
                    self._listening.check()  # somebody else may have been quicker
                raise
        return health.findings

    def _stop(self) -> None:
        begun = time.monotonic()
        say()
        say("Stopping ...")
        try:
            forced = self._stop_politely(begun)
        except StopRequest:
            say("At once.")
            self._signals.ignore()
            self._stop_children()
            self._engines.stop(0)
            forced = []
        with contextlib.suppress(OSError):
            self._env_file.unlink(missing_ok=True)
        if forced:
            say(f"Ended by force: {', '.join(forced)}.")
        say(f"Stopped after {time.monotonic() - begun:.1f} s.")

    def _stop_politely(self, begun: float) -> list[str]:
        """Children first: a worker hands its jobs back. Who had to be forced."""
        for child in self._children:
            child.request_stop()
        while any(child.alive for child in self._children) and time.monotonic() < begun + CHILDREN_SECONDS:
            time.sleep(GLANCE_SECONDS)
        forced = self._stop_children()
        self._engines.stop(max(ENGINES_SECONDS, begun + ALL_SECONDS - time.monotonic()))
        return forced

    def _stop_children(self) -> list[str]:
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
    begun = time.monotonic()
    yield
    say(f"  {step:<34}{time.monotonic() - begun:5.1f} s")
