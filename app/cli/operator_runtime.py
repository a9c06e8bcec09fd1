"""What every operator's command has in common: settings, an open runtime, and errors in one line."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

import asyncpg

from app.cli.console import without_passwords
from app.cli.errors import CommandError
from app.cli.running_instance import join_running
from app.core.config import Settings
from app.core.database.pool import UNAVAILABLE
from app.core.errors import FleekError, SettingsError
from app.core.http_client.client import HttpClient
from app.core.load_settings import load_settings
from app.core.telemetry.logging import set_up_logging
from app.runtime import Runtime, open_runtime

Result = TypeVar("Result")

DATABASE_HINT: Final = "is PostgreSQL running, and are DATABASE_URL or POSTGRES_* right?"
INTERRUPTED: Final = 130
"""The exit status after Ctrl-C, as shells have it."""
_OLD_SCHEMA: Final = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)


class SilentBell:
    """Rings nowhere: these commands need no broker, and workers find what is due within a second by themselves."""

    failures = 0

    def ring(self, queue: str) -> None:
        """See `Bell.ring`."""


def settings_in_force() -> Settings:
    """The settings, of a `fleek up` that runs in this folder if there is one.

    Raises:
        CommandError: One of them is invalid.
    """
    join_running()
    try:
        return load_settings()
    except SettingsError as error:
        raise CommandError(f"invalid setting: {error.detail}") from None


def operate(work: Callable[[Runtime], Awaitable[Result]]) -> Result:
    """Do something with the database and all else that a process has.

    Raises:
        CommandError: It cannot be done, and why.
    """
    settings = settings_in_force()
    set_up_logging(level="ERROR", json=not sys.stderr.isatty())

    async def run() -> Result:
        async with open_runtime(settings) as runtime:
            return await work(runtime)

    return with_database(run)


def operate_calling(work: Callable[[Runtime], Awaitable[Result]]) -> Result:
    """The same, and providers can be called.

    Raises:
        CommandError: It cannot be done, and why.
    """
    settings = settings_in_force()
    set_up_logging(level="ERROR", json=not sys.stderr.isatty())

    async def run() -> Result:
        outgoing = HttpClient(allow_private_addresses=settings.allow_private_addresses)
        async with open_runtime(settings, outgoing=outgoing) as runtime:
            return await work(runtime)

    return with_database(run)


def with_database(run: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a coroutine function; whatever the database says against it becomes one line.

    Raises:
        CommandError: That line.
    """
    try:
        return asyncio.run(run())
    except UNAVAILABLE as error:
        raise CommandError(f"the database does not answer ({type(error).__name__}): {DATABASE_HINT}") from None
    except _OLD_SCHEMA as error:
        raise CommandError(f"the schema is not the one of this code ({error}): run fleek db upgrade") from None
    except asyncpg.PostgresError as error:
        raise CommandError(f"the database refuses us: {without_passwords(str(error))}") from None
    except FleekError as error:
        raise CommandError(error.detail) from None
