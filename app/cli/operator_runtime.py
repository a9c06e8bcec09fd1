"""What operator commands have in common: settings, an open runtime, and errors in one line."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

import asyncpg

from app.cli.console import without_passwords
from app.cli.errors import CommandError
from app.cli.running_instance import hint_of_other_data_folder, use_running_instance
from app.core.config import Settings
from app.core.database.pool import UNAVAILABLE
from app.core.errors import FleekError, SettingsError
from app.core.http_client.client import HttpClient
from app.core.http_client.proxies import proxies_of
from app.core.load_settings import load_settings
from app.core.telemetry.logging import set_up_logging
from app.runtime import Runtime, open_runtime

Result = TypeVar("Result")

DATABASE_HINT: Final = "is PostgreSQL running, and are DATABASE_URL or POSTGRES_* correct?"
INTERRUPTED: Final = 130
"""The exit status after Ctrl-C, as shells use it."""
_OLD_SCHEMA: Final = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)


class NullBell:
    """Sends no wake-up signals: these commands need no broker, and workers poll for due jobs every second anyway."""

    failures = 0

    def ring(self, queue: str) -> None:
        """See `Bell.ring`."""


def effective_settings() -> Settings:
    """The settings, with the addresses of a `fleek up` that runs in this folder, if any.

    Raises:
        CommandError: One of them is invalid.
    """
    use_running_instance()
    try:
        return load_settings()
    except SettingsError as error:
        raise CommandError(f"invalid setting: {error.detail}") from None


def with_runtime(work: Callable[[Runtime], Awaitable[Result]]) -> Result:
    """Run `work` with an open runtime.

    Raises:
        CommandError: It failed; the message says why.
    """
    settings = effective_settings()
    set_up_logging(level="ERROR", json=not sys.stderr.isatty())

    async def run() -> Result:
        async with open_runtime(settings) as runtime:
            return await work(runtime)

    return with_database(run)


def with_runtime_and_providers(work: Callable[[Runtime], Awaitable[Result]]) -> Result:
    """Run `work` with an open runtime that can also call providers.

    Raises:
        CommandError: It failed; the message says why.
    """
    settings = effective_settings()
    set_up_logging(level="ERROR", json=not sys.stderr.isatty())

    async def run() -> Result:
        outgoing = HttpClient(allow_private_addresses=settings.allow_private_addresses, proxies=proxies_of(settings))
        async with open_runtime(settings, outgoing=outgoing) as runtime:
            return await work(runtime)

    return with_database(run)


def with_database(run: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a coroutine function and turn database errors into one line.

    Raises:
        CommandError: With that line.
    """
    try:
        return asyncio.run(run())
    except UNAVAILABLE as error:
        raise CommandError(
            f"the database does not answer ({type(error).__name__}): {DATABASE_HINT}{hint_of_other_data_folder()}"
        ) from None
    except _OLD_SCHEMA as error:
        raise CommandError(f"the database schema does not match this release ({error}): run fleek db upgrade") from None
    except asyncpg.PostgresError as error:
        raise CommandError(
            f"the database refused the connection or the query: {without_passwords(str(error))}"
        ) from None
    except FleekError as error:
        raise CommandError(error.detail) from None
