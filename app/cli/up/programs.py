"""The programs of ours that `fleek up` runs, and how."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.cli.bind_address import Listening
from app.cli.environment import python
from app.cli.up.processes import Child
from app.cli.up.signals import StopSignals
from app.core.database.migrations import ROOT
from app.embedded.process import Command

GOODBYE_SECONDS: Final = 3
"""How long the API lets open requests end when it stops."""


@dataclass(frozen=True, kw_only=True)
class Programs:
    """What they have in common: environment, working folder (the user's, where `.env` may lie), logs."""

    environment: Mapping[str, str]
    logs: Path
    signals: StopSignals

    def migration(self) -> Child:
        """Brings the schema up to date and ends."""
        configuration = str(ROOT / "alembic.ini")
        return self._child("the migration", "migration", python("alembic", "-c", configuration, "upgrade", "head"))

    def bucket(self) -> Child:
        """Makes the bucket where it is missing and ends."""
        return self._child("making the bucket", "bucket", python("app.cli.prepare.bucket"))

    def api(self, listening: Listening) -> Child:
        """Serves HTTP."""
        options = ["--host", listening.host, "--port", str(listening.port), "--workers", "1"]
        options += ["--no-access-log", "--timeout-graceful-shutdown", str(GOODBYE_SECONDS)]
        return self._child("API", "api", python("uvicorn", "app.main:app", "--app-dir", str(ROOT), *options))

    def worker(self, number: int) -> Child:
        """Generates media."""
        options = ["worker", "-l", "INFO", "-n", f"worker{number}@%h"]
        arguments = python("celery", "-A", "app.tasks.celery", *options)
        return self._child(f"worker {number}", f"worker{number}", arguments)

    def _child(self, name: str, log: str, arguments: list[str]) -> Child:
        command = Command(
            argv=arguments,
            environment=self.environment,
            folder=Path.cwd(),
            log=self.logs / f"{log}.log",
        )
        return Child(name, command, self.signals)
