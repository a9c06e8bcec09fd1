"""Health check for a container with a worker: `python -m app.cli.checks.worker_health`.

Reads the worker's heartbeat from the database: one short statement, where Celery's `inspect` would load all of Celery
and wake every worker. The heartbeat is also what counts: without it the worker's jobs go to others.
"""

import asyncio
import socket
import sys
from datetime import timedelta
from typing import Final

import asyncpg

from app.core.database.pool import UNAVAILABLE, DatabasePool
from app.core.errors import SettingsError
from app.core.load_settings import load_settings

_SEEN: Final = "SELECT FROM workers WHERE starts_with(name, $1) AND seen_at >= now() - $2::interval"


async def seen() -> bool:
    """Whether a worker of this host has renewed its heartbeat within its lease."""
    settings = load_settings()
    db = DatabasePool(
        settings.database_dsn,
        size=1,
        statement_seconds=3.0,
        connect_seconds=3.0,
        prepared=settings.database_prepared_statements,
    )
    try:
        lease = timedelta(seconds=settings.lease_seconds)
        return await db.fetchrow(_SEEN, f"{socket.gethostname()}/", lease) is not None
    finally:
        await db.close()


def main() -> int:
    """The exit status; the reason is printed on standard error."""
    try:
        if asyncio.run(seen()):
            return 0
        reason = "no worker of this host has reported to the database within its lease"
    except (*UNAVAILABLE, asyncpg.PostgresError) as error:
        reason = f"the database does not answer ({type(error).__name__})"
    except SettingsError as error:
        reason = f"invalid setting: {error.detail}"
    print(reason, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
