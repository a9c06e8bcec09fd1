"""How Alembic reaches the database: the settings of the product, one transaction, a bounded wait for locks."""

import asyncio
from typing import Any

import asyncpg
from alembic import context
from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from app.core.load_settings import settings_or_exit
from app.tables import TABLES

LOCK_TIMEOUT = "5s"
"""A migration that waits longer for a table would hold up every query behind it."""


def run(connection: Connection) -> None:
    """Bring one database to the wanted revision."""
    context.configure(
        connection=connection, target_metadata=TABLES[0].metadata, compare_type=True, compare_server_default=True
    )
    with context.begin_transaction():
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        # Two processes that start at once migrate one after the other.
        connection.execute(text("SELECT pg_advisory_xact_lock(4202118643)"))
        context.run_migrations()


async def run_online() -> None:
    """Connect and run."""
    dsn = settings_or_exit().database_dsn

    async def connect(**options: Any) -> Any:
        # By asyncpg itself: it reads an address as the processes at work do, `?sslmode=require` included.
        return await asyncpg.connect(dsn, **options)

    # Nameless statements: a pooler in transaction mode may hand each transaction to another session.
    nameless = {"statement_cache_size": 0, "prepared_statement_cache_size": 0, "prepared_statement_name_func": str}
    engine = create_async_engine(
        "postgresql+asyncpg://", poolclass=pool.NullPool, connect_args={"async_creator_fn": connect, **nameless}
    )
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


if context.is_offline_mode():
    context.configure(url="postgresql://", target_metadata=TABLES[0].metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    asyncio.run(run_online())
