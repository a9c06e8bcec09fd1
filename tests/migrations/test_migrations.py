"""The schema: from nothing and back to nothing, and the same as the models say."""

import asyncio

import asyncpg
import pytest
from alembic.config import Config
from alembic.util.exc import CommandError

from alembic import command
from app.core.database.migrations import ROOT, current_revision, newest_revision
from app.tables import TABLES
from tests.support import dsn_of, migrate, on_server


@pytest.fixture
async def empty(base_settings):
    await on_server(base_settings, "CREATE DATABASE empty_one")
    yield dsn_of(base_settings, "empty_one")
    await on_server(base_settings, "DROP DATABASE empty_one WITH (FORCE)")


async def tables_of(dsn):
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    finally:
        await connection.close()
    return {row[0] for row in rows} - {"alembic_version"}


async def test_the_schema_goes_from_nothing_to_everything_and_back(empty):
    await asyncio.to_thread(migrate, empty)
    assert await tables_of(empty) == {table.__tablename__ for table in TABLES}

    await asyncio.to_thread(migrate, empty, "base", down=True)
    assert await tables_of(empty) == set()

    await asyncio.to_thread(migrate, empty)


async def test_autogenerate_finds_no_difference(database, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", database)

    await asyncio.to_thread(command.check, Config(ROOT / "alembic.ini"))


async def test_the_newest_revision_is_found_without_alembic(db):
    assert await current_revision(db) == newest_revision()


async def test_a_migration_waits_for_a_lock_only_so_long(database, monkeypatch):
    holder = await asyncpg.connect(database)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE media")
            with pytest.raises(Exception, match="lock timeout"):
                await asyncio.to_thread(migrate, database, "base", down=True)
    finally:
        await holder.close()


async def test_a_revision_of_somebody_else_is_refused(database, db):
    await db.execute("UPDATE alembic_version SET version_num = 'from_the_future'")

    with pytest.raises(CommandError, match="from_the_future"):
        await asyncio.to_thread(migrate, database)
