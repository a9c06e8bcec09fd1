"""The addresses of a `fleek up` that runs in this folder, for commands in a second terminal."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from app.cli.console import complain, quoted
from app.cli.environment import ENGINE_VARIABLES, read_env_file, real_variables
from app.embedded.errors import DataFolderInUseError
from app.embedded.lock import DataFolderLock

DATA: Final = Path(".fleek")


def running_addresses(data: Path) -> Mapping[str, str]:
    """The variables of the `fleek up` that holds the data folder; empty if none is running."""
    file = data / "env"
    lock = DataFolderLock(data)
    try:
        if not file.exists():
            return {}
        lock.acquire()
    except DataFolderInUseError:
        return read_env_file(file)
    except OSError as error:
        complain(
            f"{quoted(data)} cannot be read ({error.strerror}); if `fleek up` runs there, its addresses are not used"
        )
        return {}
    # left behind by a `fleek up` that was killed
    lock.release()
    return {}


def use_running_instance() -> None:
    """Add the addresses of a `fleek up` in this folder to the environment, without replacing variables.

    If a real variable says where an engine is, nothing is added.
    """
    real = real_variables()
    if any(name in real for names in ENGINE_VARIABLES.values() for name in names):
        return
    found = running_addresses(DATA)
    if found and sys.stderr.isatty():
        complain(f"`fleek up` is running in {quoted(DATA)}: its addresses are used")
    os.environ.update({name: value for name, value in found.items() if name not in real})
