"""How Alembic connects to the database: the product's settings, one transaction, a bounded wait for locks."""

import asyncio
from typing import Any

import asyncpg
from alembic import context
from sqlalchemy import Connection, pool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from app.core.load_settings import settings_or_exit
from app.tables import TABLES

LOCK_TIMEOUT = "5s"
"""A migration that waited longer for a table lock would block every query queued behind it."""
ATTEMPTS = 5
WORTH_REPEATING = {"40P01", "55P03"}
"""A deadlock with a running worker, and a lock that was not free in time."""


def run(connection: Connection) -> None:
    """Migrate one database to the requested revision."""
    context.configure(
        connection=connection, target_metadata=TABLES[0].metadata, compare_type=True, compare_server_default=True
    )
    with context.begin_transaction():
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        # Processes that start at the same time migrate one after the other.
        connection.execute(text("SELECT pg_advisory_xact_lock(4202118643)"))
        context.run_migrations()


async def run_online() -> None:
    """Connect and run."""
    dsn = settings_or_exit().database_dsn

    async def connect(**options: Any) -> Any:
        # Directly with asyncpg, which parses the DSN as the running processes do, `?sslmode=require` included.
        return await asyncpg.connect(dsn, **options)

    # Unnamed statements: a pooler in transaction mode may run each transaction in another session.
    nameless = {"statement_cache_size": 0, "prepared_statement_cache_size": 0, "prepared_statement_name_func": str}
    engine = create_async_engine(
        "postgresql+asyncpg://", poolclass=pool.NullPool, connect_args={"async_creator_fn": connect, **nameless}
    )
    for attempt in range(1, ATTEMPTS + 1):
        try:
            async with engine.connect() as connection:
                await connection.run_sync(run)
            break
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in WORTH_REPEATING or attempt == ATTEMPTS:
                raise
            # Everything was rolled back; the statement of a worker was in the way.
            await asyncio.sleep(attempt)
    await engine.dispose()


if context.is_offline_mode():
    context.configure(url="postgresql://", target_metadata=TABLES[0].metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    asyncio.run(run_online())
