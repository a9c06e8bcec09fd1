"""`fleek db`: migrates the database and checks that it is ready."""

import asyncio
import os
import subprocess
from typing import Annotated, Final

import typer

from app.cli.console import complain, say, verdict
from app.cli.environment import python, python_environment
from app.cli.errors import FAILURE, CommandError
from app.cli.group import show_help
from app.cli.operator_runtime import DATABASE_HINT, effective_settings, with_database
from app.cli.prepare import command as prepare_command
from app.cli.tables import CheckResult, checks_as_json, show_checks, show_json
from app.core.config import Settings
from app.core.database.migrations import ROOT, Revisions, current_revision, revisions
from app.core.database.pool import DatabasePool

app = typer.Typer(name="db", help="Migrate and check the database.", callback=show_help, invoke_without_command=True)

COMPARISON: Final = python("alembic", "-c", str(ROOT / "alembic.ini"), "check")
MOST_SHOWN: Final = 300
"""Limit for Alembic's message, in characters."""
_SHOWN: Final = """SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS standby,
    current_setting('transaction_read_only') AS read_only, current_setting('server_encoding') AS encoding"""


@app.command()
def upgrade(
    *,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the database to answer.")] = 60,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Migrate the schema to the newest revision of this release; safe to repeat and to run concurrently."""
    settings = effective_settings()
    asyncio.run(prepare_command.with_retries(lambda: prepare_command.reach_database(settings), wait, complain))
    before, ours = _revision(settings), revisions()
    if before is not None and before not in ours.known:
        raise CommandError(f"the database is at revision {before} of a newer release; nothing was changed")
    done = _alembic(prepare_command.MIGRATION)
    if done.returncode != 0:
        raise CommandError(f"the migration failed: {verdict(done.stdout)}")
    after = _revision(settings)
    if json:
        show_json({"from": before, "to": after})
    elif before == after:
        say(f"The schema is already at revision {after}.")
    else:
        source = f"revision {before}" if before else "an empty database"
        say(f"The schema was migrated from {source} to revision {after}.")


@app.command()
def check(*, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check that the database answers, is writable, and has the schema of this release.

    The exit status is 1 if a check fails.
    """
    checks = _checks(effective_settings())
    healthy = all(one.ok for one in checks)
    if json:
        show_json({"ok": healthy, "checks": checks_as_json(checks)})
    else:
        show_checks(checks)
    raise typer.Exit(0 if healthy else FAILURE)


def _checks(settings: Settings) -> list[CheckResult]:
    try:
        checks = with_database(lambda: _query(settings))
    except CommandError as error:
        detail, _, hint = str(error).partition(": ")
        return [CheckResult("database", ok=False, detail=detail, hint=hint or DATABASE_HINT)]
    # the models describe the tables at the newest revision only
    return [*checks, _schema()] if checks[-1].detail == f"at revision {revisions().newest}" else checks


async def _query(settings: Settings) -> list[CheckResult]:
    """Checks that need only queries; the last one is that of the revision."""
    db = DatabasePool(settings.database_dsn, size=1, prepared=settings.database_prepared_statements)
    try:
        (row,) = await db.fetch(_SHOWN)
        present, ours = await current_revision(db), revisions()
    finally:
        await db.close()
    read_only = row["standby"] or row["read_only"] == "on"
    return [
        CheckResult("database", ok=True, detail=f"PostgreSQL {row['version'].split()[0]} answers"),
        CheckResult(
            "writable",
            ok=not read_only,
            detail=("it is a standby" if row["standby"] else "it is read-only") if read_only else "writable",
            hint="set DATABASE_URL or POSTGRES_SERVER to the address of the primary",
        ),
        CheckResult(
            "encoding",
            ok=row["encoding"] == "UTF8",
            detail=row["encoding"],
            hint="create the database again with ENCODING 'UTF8': prompts may contain any character",
        ),
        CheckResult(
            "revision",
            ok=ours.is_compatible_with(present),
            detail=_describe(present, ours),
            hint="run fleek db upgrade",
        ),
    ]


def _describe(present: str | None, ours: Revisions) -> str:
    if present == ours.newest:
        return f"at revision {present}"
    if ours.is_compatible_with(present):
        return f"at revision {present} of a newer release, with which this one is compatible"
    return f"at {f'revision {present}' if present else 'no revision'}, this release needs {ours.newest}"


def _schema() -> CheckResult:
    """Whether the tables match the models."""
    done = _alembic(COMPARISON)
    if done.returncode == 0:
        return CheckResult("schema", ok=True, detail="tables and indexes match this release")
    return CheckResult(
        "schema",
        ok=False,
        detail=verdict(done.stdout)[:MOST_SHOWN],
        hint="the schema was changed by hand; undo that change",
    )


def _revision(settings: Settings) -> str | None:
    async def query() -> str | None:
        db = DatabasePool(settings.database_dsn, size=1, prepared=settings.database_prepared_statements)
        try:
            return await current_revision(db)
        finally:
            await db.close()

    return with_database(query)


def _alembic(command: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run in a process of its own: Alembic needs the main thread and its own event loop."""
    return subprocess.run(  # noqa: S603 - our own program
        command,
        env=os.environ | python_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
