"""What `fleek up` prints once everything runs: addresses and the next steps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from app.cli.console import quoted, say, without_passwords
from app.cli.environment import external_engine_variable
from app.embedded.engines import POSTGRES, SEAWEED, VALKEY

EXAMPLE: Final = '\'{"prompt": "a lighthouse at dawn"}\''


def show_banner(found: Mapping[str, str], real: Mapping[str, str], *, bucket: str, data: Path) -> None:
    """Print the addresses and the next steps.

    Args:
        found: Addresses of the API and the engines, by variable.
        real: The variables that the user has set.
        bucket: Name of the bucket.
        data: The data folder.
    """
    places = {
        "API": f"{found['PUBLIC_URL']}/docs",
        "PostgreSQL": without_passwords(found["DATABASE_URL"]) + _origin(POSTGRES, real),
        "Valkey": without_passwords(found["REDIS_URL"]) + _origin(VALKEY, real),
        "S3": f"{without_passwords(found['S3_ENDPOINT_URL'])}, bucket {bucket}" + _origin(SEAWEED, real),
        "Logs": quoted(data / "logs"),
    }
    for name, place in places.items():
        say(f"  {name:<12}{place}")
    say()
    say("Generate a picture:")
    say(f"  curl -s -X POST {found['PUBLIC_URL']}/media/generate -H 'Content-Type: application/json' -d {EXAMPLE}")
    say("Check its status with the job_id from the answer; `url` under `files` is the picture:")
    say(f"  curl -s {found['PUBLIC_URL']}/media/status/JOB_ID")
    say("Run commands on the same engines in a second terminal:")
    say(f"  uv run --env-file {quoted(data / 'env')} alembic current")
    say()
    say("Ctrl-C stops everything; the data is kept.")


def warn_of_exposure(found: Mapping[str, str], real: Mapping[str, str]) -> None:
    """Warn that other machines can reach the API."""
    say("Note: anyone who can reach this port can generate and read media; there are no API keys yet.")
    if external_engine_variable(SEAWEED, real) is None and "S3_PUBLIC_URL" not in real:
        say(f"Note: files are served at {found['S3_PUBLIC_URL']}, which only this machine can reach.")


def _origin(engine: str, real: Mapping[str, str]) -> str:
    variable = external_engine_variable(engine, real)
    return f" (yours, from {variable})" if variable else ""
