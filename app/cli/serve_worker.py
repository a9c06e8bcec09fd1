"""`fleek serve` and `fleek worker`: one process for a supervisor or a container.

uvicorn or Celery replaces this process (exec), so it receives the signals and its exit status is the command's.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from app.cli.bind_address import BindAddress
from app.cli.environment import MISLEADING, MISLEADING_PREFIXES, python, python_environment
from app.cli.operator_runtime import effective_settings
from app.core.config import Settings
from app.core.database.migrations import ROOT

GRACEFUL_SECONDS: Final = 10
"""How long a stopping API waits for open requests."""


def serve(host: str, port: int, processes: int, more: Sequence[str]) -> NoReturn:
    """Replace this process by uvicorn.

    Args:
        host: Address to listen on.
        port: Port to listen on.
        processes: How many processes serve it.
        more: Further options for uvicorn.

    Raises:
        CommandError: A setting is invalid, or the address cannot be used.
    """
    settings = effective_settings()
    address = BindAddress(host, port)
    address.check()
    options = ["--host", host, "--port", str(port), "--workers", str(processes), "--app-dir", str(ROOT)]
    options += ["--no-access-log", "--timeout-graceful-shutdown", str(GRACEFUL_SECONDS)]
    _exec(python("uvicorn", "app.main:app", *options, *more), address.allowed_hosts(settings))


def work(name: str | None, slots: int | None, more: Sequence[str]) -> NoReturn:
    """Replace this process by a Celery worker.

    Args:
        name: The part before the `@`; None: one that is unique on this machine.
        slots: Jobs in flight at providers over the network; None: WORKER_SLOTS.
        more: Further options for Celery.

    Raises:
        CommandError: A setting is invalid.
    """
    settings = effective_settings()
    options = ["worker", "-l", settings.log_level, "-n", f"{name or f'fleek-{os.getpid()}'}@%h"]
    changes = {} if slots is None else {"WORKER_SLOTS": str(slots)}
    _exec(python("celery", "-A", "app.tasks.celery", *options, *more), changes)


def _exec(command: list[str], changes: Mapping[str, str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, _environment() | dict(changes))  # noqa: S606 - our own program, and no shell


def _environment() -> dict[str, str]:
    """The environment of this process, without variables that Celery and uvicorn would read as options."""
    foreign = MISLEADING - {name.upper() for name in Settings.model_fields}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.upper() not in foreign and not name.upper().startswith(MISLEADING_PREFIXES)
    }
    return kept | python_environment()
