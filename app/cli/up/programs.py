"""The command lines of the programs that `fleek up` runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.cli.bind_address import BindAddress
from app.cli.environment import python
from app.cli.up.processes import Child
from app.cli.up.signals import StopSignals
from app.core.database.migrations import ROOT
from app.embedded.process import Command

GRACEFUL_SECONDS: Final = 3
"""How long a stopping API waits for open requests."""


@dataclass(frozen=True, kw_only=True)
class Programs:
    """Programs with a common environment, working folder (the user's, which may hold a `.env`) and log folder."""

    environment: Mapping[str, str]
    logs: Path
    signals: StopSignals

    def migration(self) -> Child:
        """Migrates the schema, then ends."""
        configuration = str(ROOT / "alembic.ini")
        return self._child("the migration", "migration", python("alembic", "-c", configuration, "upgrade", "head"))

    def bucket(self) -> Child:
        """Creates the bucket if it is missing, then ends."""
        return self._child("creating the bucket", "bucket", python("app.cli.prepare.bucket"))

    def api(self, address: BindAddress) -> Child:
        """Serves HTTP."""
        options = ["--host", address.host, "--port", str(address.port), "--workers", "1"]
        options += ["--no-access-log", "--timeout-graceful-shutdown", str(GRACEFUL_SECONDS)]
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
