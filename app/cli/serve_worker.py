"""`fleek serve` and `fleek worker`: one part alone, as a supervisor or a container runs it.

The program takes this process's place, so signals reach it and its exit status is ours.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from app.cli.bind_address import Listening
from app.cli.environment import MISLEADING, MISLEADING_PREFIXES, python, python_environment
from app.cli.operator_runtime import settings_in_force
from app.core.config import Settings
from app.core.database.migrations import ROOT

GOODBYE_SECONDS: Final = 10
"""How long the API lets open requests end when it stops."""


def serve(host: str, port: int, processes: int, more: Sequence[str]) -> NoReturn:
    """Become uvicorn.

    Args:
        host: Address to listen on.
        port: Port.
        processes: How many serve it.
        more: Options for uvicorn itself.

    Raises:
        CommandError: A setting is invalid, or nothing can listen there.
    """
    settings_in_force()
    Listening(host, port).check()
    options = ["--host", host, "--port", str(port), "--workers", str(processes), "--app-dir", str(ROOT)]
    options += ["--no-access-log", "--timeout-graceful-shutdown", str(GOODBYE_SECONDS)]
    _become(python("uvicorn", "app.main:app", *options, *more), {})


def work(name: str | None, slots: int | None, more: Sequence[str]) -> NoReturn:
    """Become a Celery worker.

    Args:
        name: Before the `@` of its name; None: one that no other process of this machine has.
        slots: Jobs in flight at providers over the network; None: WORKER_SLOTS.
        more: Options for Celery itself.

    Raises:
        CommandError: A setting is invalid.
    """
    settings = settings_in_force()
    options = ["worker", "-l", settings.log_level, "-n", f"{name or f'fleek-{os.getpid()}'}@%h"]
    changes = {} if slots is None else {"WORKER_SLOTS": str(slots)}
    _become(python("celery", "-A", "app.tasks.celery", *options, *more), changes)


def _become(command: list[str], changes: Mapping[str, str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, _environment() | dict(changes))  # noqa: S606 - our own program, and no shell


def _environment() -> dict[str, str]:
    """This process's, without what Celery and uvicorn would take for options of theirs."""
    foreign = MISLEADING - {name.upper() for name in Settings.model_fields}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.upper() not in foreign and not name.upper().startswith(MISLEADING_PREFIXES)
    }
    return kept | python_environment()
