"""Which revision of the schema this code wants, and which one a database has."""

import re
from pathlib import Path
from typing import Final

import asyncpg

from app.core.connections import Connections

ROOT: Final = Path(__file__).resolve().parents[2]
"""The folder that holds `alembic.ini`."""
_REVISION: Final = re.compile(r"^(revision|down_revision)\b[^=]*= *[\"'](\w+)[\"']", re.MULTILINE)


def wanted_revision() -> str:
    """The newest revision that comes with this code, read from the files: Alembic costs 7 MB in memory."""
    found: dict[str, set[str]] = {"revision": set(), "down_revision": set()}
    for path in (ROOT / "alembic" / "versions").glob("*.py"):
        for name, value in _REVISION.findall(path.read_text()):
            found[name].add(value)
    heads = found["revision"] - found["down_revision"]
    if len(heads) != 1:
        raise RuntimeError(f"alembic/versions has {len(heads)} newest revisions, not one")
    return heads.pop()


async def present_revision(hot: Connections) -> str | None:
    """The revision a database is at; None: it was never migrated."""
    try:
        row = await hot.fetchrow("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    return None if row is None else row["version_num"]
