"""Writes the skeleton of a provider: a package of its own that passes the provider contract as written."""

import re
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import Final

from app.cli.errors import CommandError, WrongUsageError
from app.media_generator.loading import PROVIDERS, SERVICES

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_SUFFIX: Final = ".txt"
"""Prevents tools from treating the template as code."""


def write(name: str, folder: Path) -> list[Path]:
    """Write the skeleton into a new folder; the files written, in order.

    Args:
        name: Name of the provider, `[a-z0-9-]+`.
        folder: Created if missing; must be empty.

    Raises:
        WrongUsageError: The name is invalid or taken, or the folder is not empty.
        CommandError: The folder cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise WrongUsageError(
            f"{name!r} is not a valid provider name: use a-z, 0-9 and single hyphens, for example acme-labs"
        )
    if name in {"route", *_installed()}:
        raise WrongUsageError(f"{name!r} is taken: of two providers with the same name only one would be loaded")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WrongUsageError(f"{folder} is not empty; choose another folder with --folder")
    words = name.split("-")
    package = f"fleek_{'_'.join(words)}"
    values = {
        "name": name,
        "package": package,
        "kind": "".join(word.capitalize() for word in words),
        "title": " ".join(word.capitalize() for word in words),
        "variable": "_".join(words).upper(),
    }
    try:
        return list(_write(files("app.cli.new_provider") / "template", folder, values))
    except OSError as error:
        raise CommandError(f"{folder} cannot be written: {error.strerror}") from error


def _write(source: Traversable, target: Path, values: dict[str, str]) -> list[Path]:
    target.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for one in sorted(source.iterdir(), key=lambda entry: entry.name):
        if one.is_dir():
            written += _write(one, target / (values["package"] if one.name == "package" else one.name), values)
        elif one.name.endswith(_SUFFIX):
            file = target / one.name.removesuffix(_SUFFIX)
            file.write_text(Template(one.read_text()).substitute(values))
            written.append(file)
    return written


def _installed() -> set[str]:
    return {entry.name for group in (PROVIDERS, SERVICES) for entry in entry_points(group=group)}
