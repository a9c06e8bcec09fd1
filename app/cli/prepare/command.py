"""`fleek prepare`: migrates the schema and creates the bucket, before API and workers of a deployment start.

Waits for a database and a store that are still starting. Safe to repeat and to run concurrently. `fleek up` does the
same by itself.
"""

import asyncio
import os
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import Final

import asyncpg

from app.cli.console import complain, say
from app.cli.environment import python, python_environment
from app.cli.errors import CommandError
from app.cli.prepare.bucket import prepare as create_bucket
from app.core.config import Settings
from app.core.database.migrations import ROOT, newest_revision
from app.core.database.pool import UNAVAILABLE, DatabasePool
from app.core.errors import SettingsError
from app.core.load_settings import load_settings
from app.storage.store import StoreError

MIGRATION: Final = python("alembic", "-c", str(ROOT / "alembic.ini"), "upgrade", "head")
PAUSE_SECONDS: Final = 0.5


def run(wait_seconds: float) -> int:
    """Migrate, then create the bucket if it is missing; the exit status.

    Args:
        wait_seconds: How long to wait for the database, and for the store, to answer.
    """
    try:
        settings = load_settings()
        asyncio.run(with_retries(lambda: reach_database(settings), wait_seconds))
        _migrate()
        say(f"The schema is at revision {newest_revision()}.")
        asyncio.run(with_retries(create_bucket, wait_seconds))
        say(f"The bucket {settings.bucket_name} exists.")
    except SettingsError as error:
        complain(f"invalid setting: {error.detail}")
    except CommandError as error:
        complain(str(error))
    else:
        return 0
    return 1


async def with_retries(
    attempt: Callable[[], Awaitable[None]], wait_seconds: float, report: Callable[[str], None] = say
) -> None:
    """Repeat until it succeeds; report each new reason for waiting once.

    Raises:
        CommandError: It has not succeeded within `wait_seconds`, or the failure is permanent.
    """
    deadline, reported = time.monotonic() + wait_seconds, ""
    while True:
        try:
            return await attempt()
        except StoreError as error:
            reason = str(error)
        except UNAVAILABLE as error:
            reason = f"the database does not answer ({type(error).__name__})"
        except asyncpg.PostgresError as error:
            raise CommandError(f"the database refused the connection: {error}") from None
        if time.monotonic() >= deadline:
            raise CommandError(reason)
        if reason != reported:
            report(f"Waiting: {reason}")
            reported = reason
        await asyncio.sleep(PAUSE_SECONDS)


async def reach_database(settings: Settings) -> None:
    """Make sure that the database answers."""
    db = DatabasePool(settings.database_dsn, size=1, prepared=settings.database_prepared_statements)
    try:
        await db.execute("SELECT 1")
    finally:
        await db.close()


def _migrate() -> None:
    """Run in a process of its own: Alembic needs the main thread and its own event loop."""
    done = subprocess.run(MIGRATION, env=os.environ | python_environment(), check=False)  # noqa: S603 - our own program
    if done.returncode != 0:
        raise CommandError("the migration failed; see the reason above")
