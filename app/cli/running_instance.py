"""The `fleek up` that may be running in this folder: its addresses, for commands in a second terminal."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from app.cli.console import complain, quoted
from app.cli.environment import WHERE, read_env_file, real_variables
from app.embedded.errors import DataFolderInUseError
from app.embedded.lock import DataFolderLock

DATA: Final = Path(".fleek")


def running_addresses(data: Path) -> Mapping[str, str]:
    """The variables of the `fleek up` that holds the data folder; nothing if there is none."""
    file = data / "env"
    lock = DataFolderLock(data)
    try:
        if not file.exists():
            return {}
        lock.acquire()
    except DataFolderInUseError:
        return read_env_file(file)
    except OSError as error:
        complain(f"{quoted(data)} cannot be read ({error.strerror}): a `fleek up` there is not considered")
        return {}
    # left behind by one that was killed
    lock.release()
    return {}


def join_running() -> None:
    """Put the addresses of a `fleek up` in this folder into the environment, where there is no such variable yet.

    If one of those says where an engine is, that is meant: then nothing is taken from a `fleek up`.
    """
    real = real_variables()
    if any(name in real for names in WHERE.values() for name in names):
        return
    found = running_addresses(DATA)
    if found and sys.stderr.isatty():
        complain(f"`fleek up` is running on {quoted(DATA)}: its addresses are used")
    os.environ.update({name: value for name, value in found.items() if name not in real})
