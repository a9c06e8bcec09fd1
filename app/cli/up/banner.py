"""What `fleek up` says when everything runs: where it is, and what to try."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from app.cli.console import quoted, say, without_passwords
from app.cli.environment import elsewhere
from app.embedded.engines import POSTGRES, SEAWEED, VALKEY

EXAMPLE: Final = '\'{"prompt": "a lighthouse at dawn"}\''


def announce(found: Mapping[str, str], real: Mapping[str, str], *, bucket: str, data: Path) -> None:
    """Print the addresses and the next steps.

    Args:
        found: The variables that lead to everything.
        real: As the user set them.
        bucket: Its name.
        data: The data folder.
    """
    places = {
        "API": f"{found['PUBLIC_URL']}/docs",
        "PostgreSQL": without_passwords(found["DATABASE_URL"]) + _whose(POSTGRES, real),
        "Valkey": without_passwords(found["REDIS_URL"]) + _whose(VALKEY, real),
        "S3": f"{without_passwords(found['S3_ENDPOINT_URL'])}, bucket {bucket}" + _whose(SEAWEED, real),
        "Logs": quoted(data / "logs"),
    }
    for name, place in places.items():
        say(f"  {name:<12}{place}")
    say()
    say("Ask for a picture:")
    say(f"  curl -s -X POST {found['PUBLIC_URL']}/media/generate -H 'Content-Type: application/json' -d {EXAMPLE}")
    say("See what became of it, with the job_id of the answer; `url` under `files` is the picture:")
    say(f"  curl -s {found['PUBLIC_URL']}/media/status/JOB_ID")
    say("Run something beside it, in a second terminal:")
    say(f"  uv run --env-file {quoted(data / 'env')} alembic current")
    say()
    say("Ctrl-C stops everything; the data stays.")


def warn_of_exposure(found: Mapping[str, str], real: Mapping[str, str]) -> None:
    """What one should know before other machines may reach the API."""
    say("Note: whoever reaches this port may generate and read media, there are no API keys yet.")
    if elsewhere(SEAWEED, real) is None and "S3_PUBLIC_URL" not in real:
        say(f"Note: files are handed out at {found['S3_PUBLIC_URL']}, which only this machine reaches.")


def _whose(engine: str, real: Mapping[str, str]) -> str:
    variable = elsewhere(engine, real)
    return f" (yours, from {variable})" if variable else ""
