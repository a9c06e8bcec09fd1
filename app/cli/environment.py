"""Which engines `fleek up` starts, and the environment of its processes.

Only real environment variables select engines: the committed `.env` points to those of `docker compose`. The addresses
are passed to the processes as real variables, which take precedence over `.env` and `.env.local`.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from app.core.config import Settings
from app.core.database.migrations import ROOT
from app.embedded.engines import POSTGRES, SEAWEED, VALKEY

ENGINE_VARIABLES: Final = {
    POSTGRES: ("DATABASE_URL", "POSTGRES_SERVER"),
    VALKEY: ("REDIS_URL",),
    SEAWEED: ("S3_ENDPOINT_URL",),
}
"""Any one of these variables says that the engine runs elsewhere."""
PUBLIC_ADDRESSES: Final = ("PUBLIC_URL", "S3_PUBLIC_URL")
"""Addresses as clients see them: the user's own take precedence, also with embedded engines."""
SHARED_VARIABLES: Final = (
    "BROKER_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_DEFAULT_REGION",
    "BUCKET_NAME",
)
"""What else a second terminal needs to reach the same engines."""
MISLEADING: Final = {"APP", "RESULT_BACKEND", "LOADER", "CONFIG_MODULE", "WORKDIR", "WEB_CONCURRENCY"}
"""Variables that Celery and uvicorn would read as their options although they are set for other programs."""
MISLEADING_PREFIXES: Final = ("CELERY_", "UVICORN_")
SHUTDOWN_SECONDS: Final = "5"
"""Used unless the user has set it, so that Ctrl-C takes effect within 10 seconds."""


def real_variables() -> dict[str, str]:
    """The variables of this process that are not empty, with upper-case names as the settings use them."""
    return {name.upper(): value for name, value in os.environ.items() if value}


def external_engine_variable(engine: str, real: Mapping[str, str]) -> str | None:
    """The variable that says where an engine already runs; None: there is none."""
    return next((name for name in ENGINE_VARIABLES[engine] if name in real), None)


def addresses(
    real: Mapping[str, str], embedded: Mapping[str, str], settings: Settings, public_url: str
) -> dict[str, str]:
    """All variables that are needed to reach the same engines.

    Args:
        real: The variables that the user has set.
        embedded: Addresses and keys of the engines that were started.
        settings: Of this process, read before the engines were started.
        public_url: Where the API will be.
    """
    mine = {
        name: real[name]
        for name in (*(name for names in ENGINE_VARIABLES.values() for name in names), *SHARED_VARIABLES)
        if name in real
    }
    if mine.pop("POSTGRES_SERVER", None) is not None:
        # otherwise a DATABASE_URL in `.env` would take precedence
        mine.setdefault("DATABASE_URL", settings.model_copy(update={"database_url": None}).database_dsn)
    found = {**mine, **embedded}
    found.setdefault("S3_PUBLIC_URL", found["S3_ENDPOINT_URL"])
    # otherwise a BROKER_URL in `.env` would apply
    found.setdefault("BROKER_URL", found["REDIS_URL"])
    found["PUBLIC_URL"] = public_url
    return found | {name: real[name] for name in PUBLIC_ADDRESSES if name in real}


def children_environment(
    found: Mapping[str, str], settings: Settings, *, own_s3: bool, exposed: bool
) -> dict[str, str]:
    """The complete environment of API, workers and helpers.

    Args:
        found: Addresses and keys of the engines.
        settings: Of this process, read before the engines were started.
        own_s3: Whether the store is an embedded one.
        exposed: Whether other machines can reach the API.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name.upper() not in MISLEADING | found.keys()
        and not name.upper().startswith(MISLEADING_PREFIXES)
        # the user's own keys for Amazon, such as a session token
        and not (own_s3 and name.upper().startswith("AWS_"))
    }
    return inherited | development_defaults(settings, exposed=exposed) | python_environment() | dict(found)


def development_defaults(settings: Settings, *, exposed: bool) -> dict[str, str]:
    """Settings of which `fleek up` has its own defaults, unless the user has set them."""
    defaults = dict[str, str]()
    if "shutdown_seconds" not in settings.model_fields_set:
        defaults["SHUTDOWN_SECONDS"] = SHUTDOWN_SECONDS
    # developers run receivers on this machine; other users of the API must not reach them
    if not exposed and "allow_private_addresses" not in settings.model_fields_set:
        defaults["ALLOW_PRIVATE_ADDRESSES"] = "true"
    return defaults


def python_environment() -> dict[str, str]:
    """Makes `app` this package, whatever the working folder holds."""
    # Celery puts the working folder first, unless it is on the path already
    path = (str(ROOT), str(Path.cwd()), os.environ.get("PYTHONPATH", ""))
    return {"PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONUNBUFFERED": "1"}


def python(module: str, *arguments: str) -> list[str]:
    """The command line of a Python program that does not import from the working folder."""
    return [sys.executable, "-P", "-m", module, *arguments]


def write_env_file(path: Path, found: Mapping[str, str]) -> None:
    """Write it for `uv run --env-file`; readable by its owner only, because it holds passwords."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("# Addresses of the engines of the running `fleek up`, which removes this file when it stops.\n")
        file.writelines(f"{name}={_quoted(found[name])}\n" for name in sorted(found))


def read_env_file(path: Path) -> dict[str, str]:
    """Read what `write_env_file` has written."""
    return {name: value for name, value in dotenv_values(path, interpolate=False).items() if value is not None}


def _quoted(value: str) -> str:
    if "'" not in value:
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
