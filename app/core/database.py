"""The database: SQLAlchemy sessions for everything but the hot statements, and the connections of those."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, MetaData, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from app.core.config import Settings
from app.core.connections import Connections


class Base(DeclarativeBase):
    """The base of every table; its naming rules make migrations name constraints alike everywhere."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a class attribute
        str: Text(),
        int: BigInteger(),
        datetime: DateTime(timezone=True),
        UUID: Uuid(),
        dict[str, Any]: JSONB(),
    }


class Database:
    """One database, reached in two ways that see the same rows."""

    def __init__(self, settings: Settings) -> None:
        url = make_url(settings.database_dsn).set(drivername="postgresql+asyncpg")
        self._engine = create_async_engine(url, pool_size=settings.database_connections, pool_pre_ping=True)
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)
        self.hot = Connections(settings.database_dsn, size=settings.database_connections)
        """For single statements in autocommit; see `core/connections.py`."""

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncSession]:
        """A session that commits at the end of the block, or undoes everything on an error."""
        async with self._sessions.begin() as session:
            yield session

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[AsyncSession]:
        """A session for reading; a write in it is refused by PostgreSQL instead of vanishing."""
        async with self._sessions.begin() as session:
            await session.connection(execution_options={"postgresql_readonly": True})
            yield session

    async def close(self) -> None:
        """Close every idle connection."""
        await self.hot.close()
        await self._engine.dispose()
