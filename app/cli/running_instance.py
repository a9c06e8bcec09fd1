"""The addresses of a `fleek up` that runs in this folder, for commands in a second terminal."""

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from app.cli.console import complain, quoted
from app.cli.environment import ENGINE_VARIABLES, read_env_file, real_variables
from app.embedded.errors import DataFolderInUseError
from app.embedded.lock import LOCK_NAME, DataFolderLock

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

    If a real variable says where an engine is, nothing is added. If one runs here with another data folder, say how to
    lead the command there.
    """
    if addresses_are_given():
        return
    found = running_addresses(DATA)
    if found and sys.stderr.isatty():
        complain(f"`fleek up` is running in {quoted(DATA)}: its addresses are used")
    if not found:
        for data in _other_data_folders():
            complain(f"`fleek up` is running in {quoted(data)}, and this command does not use it; {_lead_to(data)}")
    real = real_variables()
    os.environ.update({name: value for name, value in found.items() if name not in real})


def addresses_are_given() -> bool:
    """Whether a real variable says where an engine is."""
    real = real_variables()
    return any(name in real for names in ENGINE_VARIABLES.values() for name in names)


def hint_of_other_data_folder() -> str:
    """How to lead this command to a `fleek up` that runs with a data folder elsewhere; empty if variables lead it."""
    return "" if addresses_are_given() else f" If `fleek up --data FOLDER` is running, {_lead_to(Path('FOLDER'))}."


def _other_data_folders() -> list[Path]:
    """The data folders in this folder, other than DATA, in which a `fleek up` runs."""
    try:
        files = sorted(Path().glob("*/env"))
    except OSError:
        return []
    return [file.parent for file in files if (file.parent / LOCK_NAME).is_file() and running_addresses(file.parent)]


def _lead_to(data: Path) -> str:
    return f"lead it there with `uv run --env-file {quoted(data / 'env')} fleek {shlex.join(sys.argv[1:])}`"
