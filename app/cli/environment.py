"""Which engines `fleek up` starts, and the environment its processes get.

Only real environment variables count: the committed `.env` leads to the engines of `docker compose`. What the
processes need to find each other they get as real variables, which beat `.env` and `.env.local`.
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

WHERE: Final = {
    POSTGRES: ("DATABASE_URL", "POSTGRES_SERVER"),
    VALKEY: ("REDIS_URL",),
    SEAWEED: ("S3_ENDPOINT_URL",),
}
"""The variables of which one is enough to say that an engine runs elsewhere."""
KEPT: Final = ("PUBLIC_URL", "S3_PUBLIC_URL")
"""Addresses as clients see them: the user's own come first, also for embedded engines."""
SHARED: Final = ("BROKER_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "BUCKET_NAME")
"""What else a second terminal needs to reach the same things."""
MISLEADING: Final = {"APP", "RESULT_BACKEND", "LOADER", "CONFIG_MODULE", "WORKDIR", "WEB_CONCURRENCY"}
"""Variables meant for others, from which Celery and uvicorn take options."""
MISLEADING_PREFIXES: Final = ("CELERY_", "UVICORN_")
SHUTDOWN_SECONDS: Final = "5"
"""What a stopping worker gets unless the user has set it: Ctrl-C is answered within 10 seconds."""


def real_variables() -> dict[str, str]:
    """The variables of this process that are not empty; their names in capitals, as the settings see them."""
    return {name.upper(): value for name, value in os.environ.items() if value}


def elsewhere(engine: str, real: Mapping[str, str]) -> str | None:
    """The variable that says where an engine already runs, if there is one."""
    return next((name for name in WHERE[engine] if name in real), None)


def addresses(
    real: Mapping[str, str], embedded: Mapping[str, str], settings: Settings, public_url: str
) -> dict[str, str]:
    """All that one needs to reach the same engines.

    Args:
        real: As the user set them.
        embedded: The variables that lead to the engines we have started.
        settings: Of this process, from before they were started.
        public_url: Where the API will be.
    """
    mine = {
        name: real[name] for name in (*(name for names in WHERE.values() for name in names), *SHARED) if name in real
    }
    if mine.pop("POSTGRES_SERVER", None) is not None:
        # a DATABASE_URL in `.env` would win against it
        mine.setdefault("DATABASE_URL", settings.model_copy(update={"database_url": None}).database_dsn)
    found = {**mine, **embedded}
    found.setdefault("S3_PUBLIC_URL", found["S3_ENDPOINT_URL"])
    # a BROKER_URL in `.env` leads elsewhere, too
    found.setdefault("BROKER_URL", found["REDIS_URL"])
    found["PUBLIC_URL"] = public_url
    return found | {name: real[name] for name in KEPT if name in real}


def children_environment(
    found: Mapping[str, str], settings: Settings, *, own_s3: bool, exposed: bool
) -> dict[str, str]:
    """The whole environment of API, workers and helpers.

    Args:
        found: What leads them to each other.
        settings: Of this process, from before the engines were started.
        own_s3: Whether the store is one that we have started.
        exposed: Whether other machines reach the API.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name.upper() not in MISLEADING | found.keys()
        and not name.upper().startswith(MISLEADING_PREFIXES)
        # keys of the user's for Amazon, such as a session token
        and not (own_s3 and name.upper().startswith("AWS_"))
    }
    return inherited | for_development(settings, exposed=exposed) | python_environment() | dict(found)


def for_development(settings: Settings, *, exposed: bool) -> dict[str, str]:
    """What `fleek up` sets for its processes where the user has not."""
    chosen = dict[str, str]()
    if "shutdown_seconds" not in settings.model_fields_set:
        chosen["SHUTDOWN_SECONDS"] = SHUTDOWN_SECONDS
    # who develops has receivers on this machine; others than the user must not be led to them
    if not exposed and "allow_private_addresses" not in settings.model_fields_set:
        chosen["ALLOW_PRIVATE_ADDRESSES"] = "true"
    return chosen


def python_environment() -> dict[str, str]:
    """So that `app` is this one, in whatever folder we are started."""
    # Celery puts the working folder before all others, unless it is on the path already
    path = (str(ROOT), str(Path.cwd()), os.environ.get("PYTHONPATH", ""))
    return {"PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONUNBUFFERED": "1"}


def python(module: str, *arguments: str) -> list[str]:
    """The command line of a Python program that must not mistake the working folder for its own."""
    return [sys.executable, "-P", "-m", module, *arguments]


def write_env_file(path: Path, found: Mapping[str, str]) -> None:
    """Write it for `uv run --env-file`; readable by its owner only, it holds passwords."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("# Where the engines of the running `fleek up` are; it removes this file when it stops.\n")
        file.writelines(f"{name}={_quoted(found[name])}\n" for name in sorted(found))


def read_env_file(path: Path) -> dict[str, str]:
    """What `write_env_file` has written."""
    return {name: value for name, value in dotenv_values(path, interpolate=False).items() if value is not None}


def _quoted(value: str) -> str:
    if "'" not in value:
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
