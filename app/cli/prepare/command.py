"""`fleek prepare`: schema and bucket as this code wants them, before API and workers of a deployment start.

It waits for a database and a store that are still starting. It may be repeated, and may run in two places at the same
time. `fleek up` does the same by itself.
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
from app.cli.prepare.bucket import prepare as make_bucket
from app.core.config import Settings
from app.core.database.migrations import ROOT, newest_revision
from app.core.database.pool import UNAVAILABLE, DatabasePool
from app.core.errors import SettingsError
from app.core.load_settings import load_settings
from app.storage.store import StoreError

MIGRATION: Final = python("alembic", "-c", str(ROOT / "alembic.ini"), "upgrade", "head")
PAUSE_SECONDS: Final = 0.5


def run(patience: float) -> int:
    """Migrate, then make the bucket where it is missing; the exit status.

    Args:
        patience: How many seconds each of database and store may take to answer.
    """
    try:
        settings = load_settings()
        asyncio.run(patiently(lambda: reach_database(settings), patience))
        _migrate()
        say(f"The schema is at revision {newest_revision()}.")
        asyncio.run(patiently(make_bucket, patience))
        say(f"The bucket {settings.bucket_name} is there.")
    except SettingsError as error:
        complain(f"invalid setting: {error.detail}")
    except CommandError as error:
        complain(str(error))
    else:
        return 0
    return 1


async def patiently(attempt: Callable[[], Awaitable[None]], patience: float, tell: Callable[[str], None] = say) -> None:
    """Try until it succeeds; what is in the way is told at once, and again when it changes.

    Raises:
        CommandError: It does not succeed within `patience` seconds, or never will.
    """
    deadline, told = time.monotonic() + patience, ""
    while True:
        try:
            return await attempt()
        except StoreError as error:
            trouble = str(error)
        except UNAVAILABLE as error:
            trouble = f"the database does not answer ({type(error).__name__})"
        except asyncpg.PostgresError as error:
            raise CommandError(f"the database refuses us: {error}") from None
        if time.monotonic() >= deadline:
            raise CommandError(trouble)
        if trouble != told:
            tell(f"Waiting: {trouble}")
            told = trouble
        await asyncio.sleep(PAUSE_SECONDS)


async def reach_database(settings: Settings) -> None:
    """Find out whether the database answers."""
    db = DatabasePool(settings.database_dsn, size=1, prepared=settings.database_prepared_statements)
    try:
        await db.execute("SELECT 1")
    finally:
        await db.close()


def _migrate() -> None:
    """In a process of its own, as Alembic wants the main thread and an event loop to itself."""
    done = subprocess.run(MIGRATION, env=os.environ | python_environment(), check=False)  # noqa: S603 - our own program
    if done.returncode != 0:
        raise CommandError("the migration failed; the reason stands above")
