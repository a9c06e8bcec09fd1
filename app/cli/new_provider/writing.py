"""Writes the skeleton of a provider: a package of its own that keeps every rule from the first moment."""

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
"""What keeps tools from taking the template for code."""


def write(name: str, folder: Path) -> list[Path]:
    """Write the skeleton into a new folder; the files, in order.

    Args:
        name: The provider's, `[a-z0-9-]+`.
        folder: Is made; must not hold anything yet.

    Raises:
        WrongUsageError: The name cannot be one, or the folder is in use.
        CommandError: The folder cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise WrongUsageError(
            f"{name!r} cannot be a provider's name: it takes a-z, 0-9 and single hyphens, like acme-labs"
        )
    if name in {"route", *_installed()}:
        raise WrongUsageError(f"{name!r} is taken: of two providers of one name only one would be loaded")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WrongUsageError(f"{folder} is in use already; choose another folder with --folder")
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
