"""`fleek jobs`: the jobs of all owners, as an operator looks at them and moves them."""

from typing import Annotated, Final, TypeAlias
from uuid import UUID

import typer

from app.cli.errors import WrongUsageError
from app.cli.group import tell
from app.cli.jobs import bulk_actions
from app.cli.jobs import pause as jobs_paused
from app.cli.jobs import show as jobs_shown
from app.cli.jobs.bulk_actions import Move
from app.cli.tables import duration
from app.core.telemetry.logging import set_up_logging
from app.jobs.sql import ENDED_WITHOUT_RESULT
from app.jobs.states import UNDER_WAY, MediaStatus
from app.media.operator_queries import Filter
from app.media_generator.loading import load_registry

app = typer.Typer(
    name="jobs",
    help="List, explain, retry and cancel jobs of all owners; pause models and providers.",
    callback=tell,
    invoke_without_command=True,
)

MOST_SHOWN: Final = 10_000


def _models(incomplete: str) -> list[str]:
    """The names of models that begin so, for the shell."""
    set_up_logging(level="CRITICAL")
    return [offer.full_name for offer in load_registry().offers() if offer.full_name.startswith(incomplete)]


def _providers(incomplete: str) -> list[str]:
    """The names of providers that begin so, for the shell."""
    set_up_logging(level="CRITICAL")
    return sorted(name for name in load_registry().providers if name.startswith(incomplete))


def _names(incomplete: str) -> list[str]:
    return _providers(incomplete) + _models(incomplete)


Statuses: TypeAlias = Annotated[
    list[MediaStatus] | None,
    typer.Option(
        "--status",
        metavar="STATUS",
        case_sensitive=False,
        help=f"In this status, of {', '.join(MediaStatus)}; may be repeated.",
    ),
]
Models: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="NAME", autocompletion=_models, help="Of this model; may be repeated."),
]
Providers: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--provider", metavar="NAME", autocompletion=_providers, help="Of this provider; may be repeated."),
]
ErrorCode: TypeAlias = Annotated[
    str | None, typer.Option("--error", metavar="CODE", help="Whose last failure has this code.")
]
Older: TypeAlias = Annotated[
    str | None, typer.Option("--older-than", metavar="AGE", help="Asked for at least so long ago: 90s, 15m, 2h, 1d.")
]
Newer: TypeAlias = Annotated[
    str | None, typer.Option("--newer-than", metavar="AGE", help="Asked for at most so long ago.")
]
Ids: TypeAlias = Annotated[
    list[UUID] | None, typer.Argument(metavar="[ID]...", help="Job ids or media ids.", show_default=False)
]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="For programs.")]
AsLines: TypeAlias = Annotated[
    bool, typer.Option("--json", help="For programs: one JSON object a line, one for each job.")
]
Most: TypeAlias = Annotated[int, typer.Option("--limit", min=1, max=MOST_SHOWN, help="How many at most.")]


@app.command("list")
def list_jobs(
    *,
    status: Statuses = None,
    model: Models = None,
    provider: Providers = None,
    error: ErrorCode = None,
    older_than: Older = None,
    newer_than: Newer = None,
    limit: Most = 50,
    json: AsLines = False,
) -> None:
    """Show jobs, newest first."""
    wanted = _filter(status, model, provider, error, older_than, newer_than)
    raise typer.Exit(jobs_shown.show_list(wanted, limit, as_json=json))


@app.command()
def show(
    job: Annotated[UUID, typer.Argument(metavar="ID", help="A job id or a media id.")],
    *,
    log: Annotated[int, typer.Option(min=0, max=MOST_SHOWN, help="How many of the newest log lines.")] = 20,
    json: AsJson = False,
) -> None:
    """Tell everything about one job: what it waits for, its tries and what they cost, its history, its log."""
    raise typer.Exit(jobs_shown.show_one(job, log, as_json=json))


@app.command()
def retry(
    ids: Ids = None,
    *,
    status: Statuses = None,
    model: Models = None,
    provider: Providers = None,
    error: ErrorCode = None,
    older_than: Older = None,
    newer_than: Newer = None,
    limit: Most = 1000,
    yes: Yes = False,
    json: AsLines = False,
) -> None:
    """Try jobs again that ended without a result: those of the ids, or the oldest that the options describe.

    Without --status only those in ERROR. What is bought already is fetched, not bought again; where another try may be
    paid a second time, as after `outcome_unknown`, you are asked.
    """
    wanted = _filter(status, model, provider, error, older_than, newer_than)
    move = Move("retry", "retried", frozenset(ENDED_WITHOUT_RESULT), (MediaStatus.ERROR,))
    raise typer.Exit(bulk_actions.move(move, ids or [], wanted, limit, yes=yes, as_json=json))


@app.command()
def cancel(
    ids: Ids = None,
    *,
    status: Statuses = None,
    model: Models = None,
    provider: Providers = None,
    error: ErrorCode = None,
    older_than: Older = None,
    newer_than: Newer = None,
    limit: Most = 1000,
    yes: Yes = False,
    json: AsLines = False,
) -> None:
    """Cancel jobs that are not over: those of the ids, or the oldest that the options describe.

    What waits is cancelled at once. Of what runs, the provider is asked; `fleek jobs show` tells what came of it.
    """
    wanted = _filter(status, model, provider, error, older_than, newer_than)
    move = Move("cancel", "canceled", frozenset(UNDER_WAY), tuple(sorted(UNDER_WAY)))
    raise typer.Exit(bulk_actions.move(move, ids or [], wanted, limit, yes=yes, as_json=json))


@app.command()
def pause(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A model (provider/name) or a provider; nothing: show what is paused.", autocompletion=_names
        ),
    ] = None,
    *,
    message: Annotated[
        str | None, typer.Option(help="What clients read in `waiting_for`; as it was if left out.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Buy nothing more from a model or a provider until it is resumed.

    What is bought already goes on, and what a worker has just taken may still be bought. New requests are accepted and
    wait. Without a name: show what is paused, and which providers are closed.
    """
    if name is None:
        raise typer.Exit(jobs_paused.show(as_json=json))
    raise typer.Exit(jobs_paused.pause(name, message, as_json=json))


@app.command()
def resume(
    name: Annotated[str, typer.Argument(help="A model (provider/name) or a provider.", autocompletion=_names)],
    *,
    json: AsJson = False,
) -> None:
    """Buy again from a model or a provider; what waited has its old place."""
    raise typer.Exit(jobs_paused.resume(name, as_json=json))


def _filter(
    statuses: list[MediaStatus] | None,
    models: list[str] | None,
    providers: list[str] | None,
    error: str | None,
    older_than: str | None,
    newer_than: str | None,
) -> Filter:
    try:
        older, newer = (None if age is None else duration(age) for age in (older_than, newer_than))
    except ValueError as fault:
        raise WrongUsageError(str(fault)) from None
    return Filter(tuple(statuses or ()), tuple(models or ()), tuple(providers or ()), error, older, newer)
