"""Which revision of the schema this code wants, and which one a database has."""

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


LOOK_SECONDS: Final = 1.0
"""How often a worker looks whether its schema is there."""


@dataclass(frozen=True, slots=True)
class Revisions:
    """What this code knows of its schema."""

    newest: str
    known: frozenset[str]

    def serve_on(self, present: str | None) -> bool:
        """Whether this code works on a database at revision `present`.

        A revision that it does not know is of a newer release, whose first step only adds (docs/how-to/deploy.md): the
        old one goes on until it is replaced.
        """
        return present is not None and (present == self.newest or present not in self.known)


def revisions() -> Revisions:
    """Read from the files that come with this code: Alembic costs 7 MB in memory."""
    found: dict[str, set[str]] = {"revision": set(), "down_revision": set()}
    for path in (ROOT / "alembic" / "versions").glob("*.py"):
        for name, value in _REVISION.findall(path.read_text()):
            found[name].add(value)
    heads = found["revision"] - found["down_revision"]
    if len(heads) != 1:
        raise RuntimeError(f"alembic/versions has {len(heads)} newest revisions, not one")
    return Revisions(heads.pop(), frozenset(found["revision"]))


def wanted_revision() -> str:
    """The newest revision that comes with this code."""
    return revisions().newest


async def until_migrated(db: DatabasePool) -> None:
    """Return when the database has the schema that this code needs; whoever migrates it may come later."""
    mine = await asyncio.to_thread(revisions)
    told = False
    while True:
        try:
            present = await present_revision(db)
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            reason = f"the database cannot be asked ({type(error).__name__})"
        else:
            if mine.serve_on(present):
                return
            reason = f"the database is at revision {present}, this code wants {mine.newest}: run `fleek prepare`"
        if not told:
            log.warning("waiting_for_schema", reason=reason)
            told = True
        await asyncio.sleep(LOOK_SECONDS)


async def present_revision(db: DatabasePool) -> str | None:
    """The revision a database is at; None: it was never migrated."""
    try:
        row = await db.fetchrow("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    return None if row is None else row["version_num"]
