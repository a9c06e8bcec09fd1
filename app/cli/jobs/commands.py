"""`fleek jobs`: its commands and options."""

from typing import Annotated, Final, TypeAlias
from uuid import UUID

import typer

from app.cli.errors import WrongUsageError
from app.cli.group import show_help
from app.cli.jobs import bulk_actions
from app.cli.jobs import pause as jobs_paused
from app.cli.jobs import show as jobs_shown
from app.cli.jobs.bulk_actions import BulkAction
from app.cli.tables import parse_duration
from app.core.telemetry.logging import set_up_logging
from app.jobs.sql import ENDED_WITHOUT_RESULT
from app.jobs.states import UNDER_WAY, MediaStatus
from app.media.operator_queries import Filter
from app.media_generator.loading import load_registry

app = typer.Typer(
    name="jobs",
    help="List, explain, retry and cancel jobs of all owners; pause and resume models and providers.",
    callback=show_help,
    invoke_without_command=True,
)

MOST_SHOWN: Final = 10_000


def _models(incomplete: str) -> list[str]:
    """Model names for shell completion."""
    set_up_logging(level="CRITICAL")
    return [offer.full_name for offer in load_registry().offers() if offer.full_name.startswith(incomplete)]


def _providers(incomplete: str) -> list[str]:
    """Provider names for shell completion."""
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
        help=f"Only jobs in this status: {', '.join(MediaStatus)}; may be repeated.",
    ),
]
Models: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="NAME", autocompletion=_models, help="Only jobs for this model; may be repeated."),
]
Providers: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--provider", metavar="NAME", autocompletion=_providers, help="Only jobs for this provider; may be repeated."
    ),
]
ErrorCode: TypeAlias = Annotated[
    str | None, typer.Option("--error", metavar="CODE", help="Only jobs whose last error has this code.")
]
Older: TypeAlias = Annotated[
    str | None,
    typer.Option("--older-than", metavar="AGE", help="Only jobs requested at least this long ago: 90s, 15m, 2h, 1d."),
]
Newer: TypeAlias = Annotated[
    str | None, typer.Option("--newer-than", metavar="AGE", help="Only jobs requested at most this long ago.")
]
Ids: TypeAlias = Annotated[
    list[UUID] | None, typer.Argument(metavar="[ID]...", help="Job ids or media ids.", show_default=False)
]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsLines: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON: one object per job, one per line.")]
Most: TypeAlias = Annotated[int, typer.Option("--limit", min=1, max=MOST_SHOWN, help="Maximum number of jobs.")]


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
    job: Annotated[UUID, typer.Argument(metavar="ID", help="Job id or media id.")],
    *,
    log: Annotated[int, typer.Option(min=0, max=MOST_SHOWN, help="Number of newest log lines to show.")] = 20,
    json: AsJson = False,
) -> None:
    """Show everything about one job: what it waits for, attempts and costs, history, log."""
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
    """Retry finished jobs that have no result: those with the given ids, or the oldest that match the options.

    Without --status, only jobs in ERROR. A generation that was already submitted and may still arrive is fetched, not
    submitted again. If another attempt may be charged a second time, as after `outcome_unknown`, you are asked first.
    """
    wanted = _filter(status, model, provider, error, older_than, newer_than)
    action = BulkAction("retry", "retried", frozenset(ENDED_WITHOUT_RESULT), (MediaStatus.ERROR,))
    raise typer.Exit(bulk_actions.run(action, ids or [], wanted, limit, yes=yes, as_json=json))


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
    """Cancel unfinished jobs: those with the given ids, or the oldest that match the options.

    Waiting jobs are cancelled at once. For running jobs the provider is asked to cancel; `fleek jobs show` shows the
    result.
    """
    wanted = _filter(status, model, provider, error, older_than, newer_than)
    action = BulkAction("cancel", "canceled", frozenset(UNDER_WAY), tuple(sorted(UNDER_WAY)))
    raise typer.Exit(bulk_actions.run(action, ids or [], wanted, limit, yes=yes, as_json=json))


@app.command()
def pause(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Model (provider/name) or provider; without it, show what is paused.", autocompletion=_names
        ),
    ] = None,
    *,
    message: Annotated[
        str | None, typer.Option(help="Message for clients, in `waiting_for`; default: unchanged.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Stop submitting jobs to a model or a provider until it is resumed.

    Jobs already submitted continue, and a job that a worker has just claimed may still be submitted. New requests are
    accepted and wait. Without a name: show what is paused, and which providers are suspended.
    """
    if name is None:
        raise typer.Exit(jobs_paused.show(as_json=json))
    raise typer.Exit(jobs_paused.pause(name, message, as_json=json))


@app.command()
def resume(
    name: Annotated[str, typer.Argument(help="Model (provider/name) or provider.", autocompletion=_names)],
    *,
    json: AsJson = False,
) -> None:
    """Resume a paused model or provider; waiting jobs return to their place in the queue."""
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
        older, newer = (None if age is None else parse_duration(age) for age in (older_than, newer_than))
    except ValueError as fault:
        raise WrongUsageError(str(fault)) from None
    return Filter(tuple(statuses or ()), tuple(models or ()), tuple(providers or ()), error, older, newer)
