"""The schema revision that this code needs, and the one that a database has."""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
import structlog

from app.core.database.pool import UNAVAILABLE, DatabasePool

log = structlog.get_logger(__name__)

ROOT: Final = Path(__file__).resolve().parents[3]
"""The folder that holds `alembic.ini`."""
_REVISION: Final = re.compile(r"^(revision|down_revision)\b[^=]*= *[\"'](\w+)[\"']", re.MULTILINE)


POLL_SECONDS: Final = 1.0
"""How often a waiting worker checks the schema."""


@dataclass(frozen=True, slots=True)
class Revisions:
    """The schema revisions that come with this code."""

    newest: str
    known: frozenset[str]

    def is_compatible_with(self, present: str | None) -> bool:
        """Whether this code works on a database at revision `present`.

        An unknown revision is of a newer release, whose first step only adds (docs/how-to/deploy.md): the old release
        keeps working until it is replaced.
        """
        return present is not None and (present == self.newest or present not in self.known)


def revisions() -> Revisions:
    """Read the migration files directly: Alembic costs 7 MB of memory."""
    found: dict[str, set[str]] = {"revision": set(), "down_revision": set()}
    for path in (ROOT / "alembic" / "versions").glob("*.py"):
        for name, value in _REVISION.findall(path.read_text()):
            found[name].add(value)
    heads = found["revision"] - found["down_revision"]
    if len(heads) != 1:
        raise RuntimeError(f"alembic/versions has {len(heads)} newest revisions, not one")
    return Revisions(heads.pop(), frozenset(found["revision"]))


def newest_revision() -> str:
    """The newest revision that comes with this code."""
    return revisions().newest


async def until_migrated(db: DatabasePool) -> None:
    """Return when the database has the schema that this code needs; it may be migrated later."""
    mine = await asyncio.to_thread(revisions)
    logged = False
    while True:
        try:
            present = await current_revision(db)
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            reason = f"the database does not respond ({type(error).__name__})"
        else:
            if mine.is_compatible_with(present):
                return
            reason = f"the database is at revision {present}, this code needs {mine.newest}: run `fleek prepare`"
        if not logged:
            log.warning("waiting_for_schema", reason=reason)
            logged = True
        await asyncio.sleep(POLL_SECONDS)


async def current_revision(db: DatabasePool) -> str | None:
    """The revision a database is at; None: it was never migrated."""
    try:
        row = await db.fetchrow("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    return None if row is None else row["version_num"]
