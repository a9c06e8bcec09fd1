"""Which revision of the schema this code wants, and which one a database has."""

from pathlib import Path
from typing import Final

import asyncpg
from alembic.config import Config
from alembic.script import ScriptDirectory

from app.core.connections import Connections

ROOT: Final = Path(__file__).resolve().parents[2]
"""The folder that holds `alembic.ini`."""


def wanted_revision() -> str | None:
    """The newest revision that comes with this code."""
    return ScriptDirectory.from_config(Config(ROOT / "alembic.ini")).get_current_head()


async def present_revision(hot: Connections) -> str | None:
    """The revision a database is at; None: it was never migrated."""
    try:
        row = await hot.fetchrow("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    return None if row is None else row["version_num"]
