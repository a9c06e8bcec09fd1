"""`fleek up`: everything on one machine, started in order, watched, stopped in order.

1. The port is free, the settings are valid. Nothing was touched yet.
2. The data folder is ours: the kernel keeps the lock until this process is gone, however it ends.
3. Engines, then the schema and the bucket at the same time, then API and workers. Whatever fails, or Ctrl-C,
   stops all that runs; after a SIGKILL the children end by themselves (parent-death signal), and the
   next start finds their data as after any crash.
4. When all answer, the addresses are printed, and the members watched.
"""

import time
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

from app.cli import announcement
from app.cli.console import complain, one_line, quoted, say, seconds, verdict
from app.cli.environment import (
    addresses,
    children_environment,
    elsewhere,
    python,
    real_variables,
    write_env_file,
)
from app.cli.errors import CommandError, StopRequest
from app.cli.health import Health
from app.cli.listening import Listening
from app.cli.members import Child, EngineMember
from app.cli.signals import StopSignals
from app.cli.supervisor import Supervisor
from app.core.config import Settings, load_settings
from app.core.errors import SettingsError
from app.core.migrations import ROOT
from app.embedded.engines import ALL, SEAWEED, Engines
from app.embedded.errors import EmbeddedError
from app.embedded.lock import DataFolderLock
from app.embedded.process import Command

CHILDREN_SECONDS: Final = 7.0
"""How long API and workers have to end by themselves."""
ALL_SECONDS: Final = 9.0
"""When after the wish to stop the engines are ended by force, too."""
GLANCE_SECONDS: Final = 0.03
REBIND_SECONDS: Final = 8.0
"""How long we wait for the port when the last `fleek up` was killed: its API is still ending."""


@dataclass(frozen=True)
class Options:
    """As given on the command line."""

    host: str
    port: int
    data: Path
    workers: int

    @property
    def env_file(self) -> Path:
        """Where the addresses are written while it runs."""
        return self.data / "env"


def run(options: Options) -> int:
    """Run until it is interrupted; the exit status."""
    with StopSignals() as signals:
        try:
            Up(options, signals).run()
        except StopRequest:
            return 0
        except (CommandError, SettingsError, EmbeddedError, OSError) as error:
            complain(one_line(error))
            return 1
    return 0


class Up:
    """One run of `fleek up`."""

    def __init__(self, options: Options, signals: StopSignals) -> None:
        self._options = options
        self._signals = signals
        self._listening = Listening(options.host, options.port)
        self._real = real_variables()
        embedded = [engine for engine in ALL if elsewhere(engine, self._real) is None]
        self._own_s3 = SEAWEED in embedded
        self._engines = Engines(options.data.absolute(), only=embedded)
        self._children: list[Child] = []
        self._begun = time.monotonic()

    def run(self) -> None:
        """Start, watch, stop.

        Raises:
            CommandError, SettingsError, EmbeddedError, OSError: It could not be started; all is stopped again.
            StopRequest: The user wanted an end; all is stopped.
        """
        options = self._options
        settings = load_settings()
        killed = options.env_file.exists()
        self._listening.check(patience=REBIND_SECONDS if killed else 0)
        lock = DataFolderLock(options.data)
        _lock(lock, options.data)
        try:
            say(f"Fleek {version('fleek')} is starting in {quoted(options.data)} ...")
            found = self._start(settings)
            announcement.ready(
                found,
                self._real,
                seconds=time.monotonic() - self._begun,
                settings=settings,
                data=options.data,
                exposed=self._listening.exposed,
            )
            members = [EngineMember(engine) for engine in self._engines.chosen]
            Supervisor([*members, *self._children]).watch()
        finally:
            self._stop()
            lock.release()

    def _start(self, settings: Settings) -> dict[str, str]:
        options = self._options
        logs = options.data.absolute() / "logs"
        logs.mkdir(mode=0o700, exist_ok=True)
        if self._engines.chosen:
            with _timed(", ".join(engine.name for engine in reversed(self._engines.chosen))):
                self._engines.start()
        found = addresses(self._real, self._engines.environment(), settings, self._listening.url)
        write_env_file(options.env_file, found)
        environment = children_environment(found, settings, own_s3=self._own_s3)
        command = partial(Command, environment=environment, folder=Path.cwd())
