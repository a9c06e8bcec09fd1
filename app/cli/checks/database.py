"""`fleek db`: the schema as this code wants it, and whether the database is fit for work."""

import asyncio
import os
import subprocess
from typing import Annotated, Final

import typer

from app.cli.console import complain, say, verdict
from app.cli.environment import python, python_environment
from app.cli.errors import FAULT, CommandError
from app.cli.group import tell
from app.cli.operator_runtime import DATABASE_HINT, settings_in_force, with_database
from app.cli.prepare import command as prepare_command
from app.cli.tables import Finding, plain_checks, show_checks, show_json
from app.core.config import Settings
from app.core.database.migrations import ROOT, Revisions, current_revision, revisions
from app.core.database.pool import DatabasePool

app = typer.Typer(name="db", help="Migrate the database, and check it.", callback=tell, invoke_without_command=True)

COMPARISON: Final = python("alembic", "-c", str(ROOT / "alembic.ini"), "check")
MOST_SHOWN: Final = 300
"""Characters of what Alembic has to say."""
_SHOWN: Final = """SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS standby,
    current_setting('transaction_read_only') AS read_only, current_setting('server_encoding') AS encoding"""


@app.command()
def upgrade(
    *,
    wait: Annotated[float, typer.Option(min=0, help="Seconds that the database may take to answer.")] = 60,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Bring the schema to the newest revision of this code; may be repeated, and run in two places at once."""
    settings = settings_in_force()
    asyncio.run(prepare_command.patiently(lambda: prepare_command.reach_database(settings), wait, complain))
    before, mine = _revision(settings), revisions()
    if before is not None and before not in mine.known:
        raise CommandError(f"the database is at revision {before} of a newer release; this one leaves it alone")
    done = _alembic(prepare_command.MIGRATION)
    if done.returncode != 0:
        raise CommandError(f"the migration failed: {verdict(done.stdout)}")
    after = _revision(settings)
    if json:
        show_json({"from": before, "to": after})
    elif before == after:
        say(f"The schema is at revision {after} already.")
    else:
        say(f"The schema went from {f'revision {before}' if before else 'nothing'} to revision {after}.")


@app.command()
def check(*, json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Find out whether the database answers, can be written to, and has the schema of this code."""
    checks = _checks(settings_in_force())
    healthy = all(one.ok for one in checks)
    if json:
        show_json({"ok": healthy, "checks": plain_checks(checks)})
    else:
        show_checks(checks)
    raise typer.Exit(0 if healthy else FAULT)


def _checks(settings: Settings) -> list[Finding]:
    try:
        checks = with_database(lambda: _ask(settings))
    except CommandError as error:
        detail, _, hint = str(error).partition(": ")
        return [Finding("database", ok=False, detail=detail, hint=hint or DATABASE_HINT)]
    # Only of its own revision does this code know how the tables are.
    return [*checks, _schema()] if checks[-1].detail == f"at revision {revisions().newest}" else checks


async def _ask(settings: Settings) -> list[Finding]:
    """The database's answers; the last check is that of the revision."""
    db = DatabasePool(settings.database_dsn, size=1, prepared=settings.database_prepared_statements)
    try:
        (row,) = await db.fetch(_SHOWN)
        present, mine = await current_revision(db), revisions()
    finally:
        await db.close()
    fixed = row["standby"] or row["read_only"] == "on"
    return [
        Finding("database", ok=True, detail=f"PostgreSQL {row['version'].split()[0]} answers"),
        Finding(
            "writable",
            ok=not fixed,
            detail=("it is a standby" if row["standby"] else "it is read-only") if fixed else "can be written to",
            hint="let DATABASE_URL or POSTGRES_SERVER lead to the primary",
        ),
        Finding(
            "encoding",
            ok=row["encoding"] == "UTF8",
            detail=row["encoding"],
            hint="make the database anew with ENCODING 'UTF8': prompts hold every character",
        ),
        Finding(
            "revision",
            ok=mine.is_compatible_with(present),
            detail=_stands(present, mine),
            hint="run fleek db upgrade",
        ),
    ]


def _stands(present: str | None, mine: Revisions) -> str:
    if present == mine.newest:
        return f"at revision {present}"
    if mine.is_compatible_with(present):
        return f"at revision {present} of a newer release, on which this one goes on"
    return f"at {f'revision {present}' if present else 'no revision'}, this code wants {mine.newest}"


def _schema() -> Finding:
    """Whether the tables are as the models say."""
    done = _alembic(COMPARISON)
    if done.returncode == 0:
        return Finding("schema", ok=True, detail="tables and indexes are those of this code")
    return Finding(
        "schema",
        ok=False,
        detail=verdict(done.stdout)[:MOST_SHOWN],
        hint="somebody has changed the schema by hand; change it back",
    )


def _revision(settings: Settings) -> str | None:
    async def ask() -> str | None:
        db = DatabasePool(settings.database_dsn, size=1, prepared=settings.database_prepared_statements)
        try:
            return await current_revision(db)
        finally:
            await db.close()

    return with_database(ask)


def _alembic(command: list[str]) -> "subprocess.CompletedProcess[str]":
    """In a process of its own, as Alembic wants the main thread and an event loop to itself."""
    return subprocess.run(  # noqa: S603 - our own program
        command,
        env=os.environ | python_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
