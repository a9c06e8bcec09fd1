"""`fleek jobs list` and `fleek jobs show`."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from app.cli.console import say
from app.cli.errors import CommandError
from app.cli.jobs.explain import Facts, why
from app.cli.operator_runtime import NullBell, with_runtime
from app.cli.tables import colored, screen_width, short_duration, show, show_json, table, timestamp
from app.core.database.rows import Row
from app.logs import queries as log_queries
from app.media import operator_queries, queries
from app.media.operator_queries import Filter, OperatorJob
from app.runtime import Runtime

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

WIDE: Final = 120
"""Terminal width from which on all columns are shown."""
MOST_EVENTS: Final = 1000
MOST_PROMPT: Final = 300
_JSON: Final = ("input", "metadata", "error", "cancel", "files", "detail", "fields", "webhook", "units", "cost")
"""Columns that hold JSON as text."""
_LISTED: Final = (
    *("job_id", "media_id", "status", "model", "owner", "owner_id", "priority", "number_of_tries", "error_code"),
    *("error_message", "cost", "currency", "retry_pays_again", "created_at", "started_at", "completed_at"),
    *("next_run", "deadline"),
)
_SHOWN: Final = (
    *("id", "job_id", "status", "prompt", "model", "input", "metadata", "progress", "number_of_tries", "next_run"),
    *("error", "created_at", "updated_at", "started_at", "completed_at", "priority", "deadline", "on_unknown"),
    *("cancel", "files", "cost"),
)


def show_list(wanted: Filter, limit: int, *, as_json: bool) -> int:
    """Show the newest jobs that match; the exit status."""
    rows = with_runtime(lambda runtime: operator_queries.jobs(runtime.db, wanted, limit=limit + 1))
    if as_json:
        for row in rows[:limit]:
            show_json({name: getattr(row, name) for name in _LISTED})
        return 0
    if not rows:
        say("No jobs match.")
        return 0
    _show_rows(rows[:limit])
    if len(rows) > limit:
        say(f"These are the newest {limit}; raise --limit to see more.")
    return 0


def _show_rows(rows: Sequence[OperatorJob]) -> None:
    wide = screen_width() >= WIDE
    columns = ["JOB", "STATUS", ">AGE", "MODEL"]
    if wide:
        columns += [">PRIO", ">ATTEMPTS", ">COST", "OWNER", "ERROR"]
    shown = table(*columns)
    for row in rows:
        cells: list[str | Text] = [str(row.job_id), colored(row.status), short_duration(row.age), row.model]
        if wide:
            cells += [str(row.priority), str(row.number_of_tries), _amount(row.cost, row.currency)]
            cells += [row.owner or str(row.owner_id), row.error_code or ""]
        shown.add_row(*cells)
    for name in ("JOB", "STATUS", "AGE"):
        next(column for column in shown.columns if column.header == name).no_wrap = True
    shown.columns[columns.index("MODEL")].no_wrap = True
    show(shown)


@dataclass(frozen=True, slots=True)
class JobReport:
    """Everything about one job."""

    media: dict[str, Any]
    owner: dict[str, Any]
    facts: Facts
    attempts: list[dict[str, Any]]
    history: list[dict[str, Any]]
    log: list[dict[str, Any]]


def show_one(job: UUID, log: int, *, as_json: bool) -> int:
    """Show everything about a job; the exit status."""
    report = with_runtime(lambda runtime: _report_of(runtime, job, log))
    if as_json:
        show_json(
            {
                **{name: report.media[name] for name in _SHOWN},
                "owner": report.owner,
                "why": why(report.facts),
                "queue_position": report.facts.position,
                "waiting_for": report.facts.reason,
                "worker": report.facts.worker,
                "attempts": report.attempts,
                "history": report.history,
                "log": report.log,
            }
        )
        return 0
    _show_facts(report)
    _show_attempts(report.attempts)
    _show_history(report.history)
    _show_log(report.log)
    return 0


async def _report_of(runtime: Runtime, job: UUID, log: int) -> JobReport:
    db = runtime.db
    found = await operator_queries.jobs_by_id(db, [job])
    media = await queries.media_by_id(db, found[0].media_id, found[0].owner_id) if found else None
    if media is None:
        raise CommandError(f"no job or media has the id {job}")
    holder = await operator_queries.holder(db, media.id)
    waiting = await runtime.media_services(NullBell()).queue_positions.waiting(media)
    attempts = [_decoded(row) for row in await queries.attempts(db, media.id)]
    facts = Facts(
        media=_decoded(media),
        attempts=attempts,
        position=None if waiting is None else waiting.position,
        reason=None if waiting is None else waiting.reason,
        takeovers=holder.takeovers,
        worker=None if holder.worker is None else {"name": holder.worker, "since_heartbeat": holder.since_heartbeat},
        workers=await operator_queries.count_workers(db),
        until_next_run=holder.until_next_run,
        retry_pays_again=found[0].retry_pays_again,
    )
    return JobReport(
        media=facts.media,
        owner={"id": found[0].owner_id, "name": found[0].owner},
        facts=facts,
        attempts=attempts,
        history=[_decoded(row) for row in await queries.history(db, media.id, after=0, limit=MOST_EVENTS)],
        log=[_decoded(row) for row in await log_queries.newest(db, media.id, limit=log)],
    )


def _show_facts(report: JobReport) -> None:
    media, facts = report.media, report.facts
    prompt = media["prompt"] if len(media["prompt"]) <= MOST_PROMPT else f"{media['prompt'][:MOST_PROMPT]}…"
    lines: dict[str, str | Text] = {
        "Job": str(media["job_id"]),
        "Media": str(media["id"]),
        "Owner": report.owner["name"] or str(report.owner["id"]),
        "Status": colored(media["status"]),
        "Why": why(facts),
        "Model": media["model"],
        "Prompt": prompt,
        "Input": msgspec.json.encode(media["input"]).decode(),
        "Metadata": msgspec.json.encode(media["metadata"]).decode() if media["metadata"] else "",
        "Terms": f"priority {media['priority']}, on_unknown {media['on_unknown']}",
        "Cost": _costs(report.attempts),
        "Requested": timestamp(media["created_at"]),
        "Started": timestamp(media["started_at"]),
        "Finished": timestamp(media["completed_at"]),
        "Deadline": timestamp(media["deadline"]),
        "Files": _files(media["files"] or []),
    }
    rows = table("", "")
    rows.show_header = False
    for name, value in lines.items():
        if value:
            rows.add_row(name, value)
    _show_folded(rows)


def _show_attempts(attempts: list[dict[str, Any]]) -> None:
    say()
    if not attempts:
        say("No attempts.")
        return
    rows = table(
        "ATTEMPT", "STATUS", "SENT", "STARTED (UTC)", ">TOOK", ">COST", ">EXPECTED", "EXTERNAL ID, BILLING, ERROR"
    )
    for one in attempts:
        took = "" if one["finished_at"] is None else short_duration(one["finished_at"] - one["created_at"])
        error = f"{one['error']['code']}: {one['error']['message']}" if one["error"] else ""
        rows.add_row(
            *(str(one["number"]), colored(one["status"]), one["sent"] or "", timestamp(one["created_at"]), took),
            *(_amount(one["cost"], one["currency"]), _amount(one["estimate"], one["currency"])),
            "\n".join(filter(None, (one["external_id"], _billed_by(one), error))),
        )
    _show_folded(rows)


def _show_history(history: list[dict[str, Any]]) -> None:
    say()
    rows = table("AT (UTC)", "EVENT", "STATUS", "DETAIL")
    for one in history:
        detail: dict[str, Any] = one["detail"] or {}
        # the message of an error is shown with its attempt
        text = detail["code"] if "code" in detail else _pairs(detail)
        rows.add_row(timestamp(one["at"]), one["event"], colored(one["status"]), text)
    _show_folded(rows)


def _show_log(log: list[dict[str, Any]]) -> None:
    if not log:
        return
    say()
    rows = table("AT (UTC)", "LEVEL", "ATTEMPT", "LOG", "FIELDS")
    for one in log:
        attempt = "" if one["attempt"] is None else str(one["attempt"])
        rows.add_row(timestamp(one["at"]), one["level"], attempt, one["event"], _pairs(one["fields"]))
    _show_folded(rows)


def _costs(attempts: list[dict[str, Any]]) -> str:
    """The total cost of its attempts, and how many purchases have no known cost."""
    known = [one["cost"] for one in attempts if one["cost"] is not None]
    currencies = {one["currency"] for one in attempts if one["cost"] is not None}
    purchases = sum(one["external_id"] is not None for one in attempts)
    if not purchases and not known:
        return ""
    unknown = "" if len(known) >= purchases else f"cost of {purchases - len(known)} of {purchases} purchases unknown"
    total = "in several currencies" if len(currencies) > 1 else ""
    if len(currencies) == 1:
        (currency,) = currencies
        total = f"{_dollars(sum(known, Decimal()))} {'US dollars' if currency == 'USD' else currency}"
    return ", ".join(filter(None, (total, unknown)))


def _amount(amount: Decimal | None, currency: str | None) -> str:
    """An amount with its currency; one table may show several."""
    return "" if amount is None else f"{_dollars(amount)} {currency}"


def _billed_by(attempt: dict[str, Any]) -> str:
    units: dict[str, float] = attempt["units"] or {}
    parts = [*(f"{number:g} {name}" for name, number in units.items()), attempt["cost_basis"] or ""]
    return ", ".join(filter(None, parts))


def _files(files: list[dict[str, Any]]) -> str:
    return "\n".join(f"{file['index']}: {file['media_type']}, {file['bytes']} bytes" for file in files)


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())


def _show_folded(rows: "Table") -> None:
    """Print a table whose last column wraps."""
    for column in rows.columns:
        column.no_wrap = column is not rows.columns[-1]
    rows.columns[-1].overflow = "fold"
    show(rows)


def _dollars(cost: Decimal | None) -> str:
    return "" if cost is None else f"{cost.normalize():f}"


def _decoded(row: Row) -> dict[str, Any]:
    fields = msgspec.structs.asdict(row)
    return {
        name: msgspec.json.decode(value) if name in _JSON and isinstance(value, str) else value
        for name, value in fields.items()
    }
