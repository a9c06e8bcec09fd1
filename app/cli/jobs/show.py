"""`fleek jobs list` and `fleek jobs show`."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import asyncpg
import msgspec

from app.cli.console import say
from app.cli.errors import CommandError
from app.cli.jobs.explain import Facts, why
from app.cli.operator_runtime import SilentBell, operate
from app.cli.tables import coloured, moment, screen_width, short, show, show_json, table
from app.core.database.rows import Row
from app.logs import queries as log_queries
from app.media import operator_queries, queries
from app.media.operator_queries import Filter
from app.runtime import Runtime

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

WIDE: Final = 120
"""Columns from which on a terminal has room for everything."""
MOST_EVENTS: Final = 1000
MOST_PROMPT: Final = 300
_JSON: Final = ("input", "metadata", "error", "cancel", "files", "detail", "fields", "webhook", "units", "cost")
"""Columns that hold JSON texts."""
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
    """Show the newest jobs that are wanted; the exit status."""
    rows = operate(lambda runtime: operator_queries.jobs(runtime.db, wanted, limit=limit + 1))
    if as_json:
        for row in rows[:limit]:
            show_json({name: row[name] for name in _LISTED})
        return 0
    if not rows:
        say("No such jobs.")
        return 0
    _show_rows(rows[:limit])
    if len(rows) > limit:
        say(f"The newest {limit}; there are more, see --limit.")
    return 0


def _show_rows(rows: Sequence[asyncpg.Record]) -> None:
    wide = screen_width() >= WIDE
    columns = ["JOB", "STATUS", ">AGE", "MODEL"]
    if wide:
        columns += [">PRIO", ">TRIES", ">COST", "OWNER", "ERROR"]
    shown = table(*columns)
    for row in rows:
        cells: list[str | Text] = [str(row["job_id"]), coloured(row["status"]), short(row["age"]), row["model"]]
        if wide:
            cells += [str(row["priority"]), str(row["number_of_tries"]), _amount(row, "cost")]
            cells += [row["owner"] or str(row["owner_id"]), row["error_code"] or ""]
        shown.add_row(*cells)
    for name in ("JOB", "STATUS", "AGE"):
        next(column for column in shown.columns if column.header == name).no_wrap = True
    shown.columns[columns.index("MODEL")].no_wrap = True
    show(shown)


@dataclass(frozen=True, slots=True)
class Story:
    """Everything that is known of one job."""

    media: dict[str, Any]
    owner: dict[str, Any]
    facts: Facts
    attempts: list[dict[str, Any]]
    history: list[dict[str, Any]]
    log: list[dict[str, Any]]


def show_one(job: UUID, log: int, *, as_json: bool) -> int:
    """Show everything about a job; the exit status."""
    story = operate(lambda runtime: _story(runtime, job, log))
    if as_json:
        show_json(
            {
                **{name: story.media[name] for name in _SHOWN},
                "owner": story.owner,
                "why": why(story.facts),
                "queue_position": story.facts.position,
                "waiting_for": story.facts.reason,
                "worker": story.facts.worker,
                "attempts": story.attempts,
                "history": story.history,
                "log": story.log,
            }
        )
        return 0
    _show_facts(story)
    _show_attempts(story.attempts)
    _show_history(story.history)
    _show_log(story.log)
    return 0


async def _story(runtime: Runtime, job: UUID, log: int) -> Story:
    db = runtime.db
    found = await operator_queries.jobs_by_id(db, [job])
    media = await queries.media_by_id(db, found[0]["media_id"], found[0]["owner_id"]) if found else None
    if media is None:
        raise CommandError(f"there is no job or media {job}")
    held = await operator_queries.holder(db, media.id)
    waiting = await runtime.media_services(SilentBell()).queue_positions.waiting(media)
    attempts = [_decoded(row) for row in await queries.attempts(db, media.id)]
    facts = Facts(
        media=_decoded(media),
        attempts=attempts,
        position=None if waiting is None else waiting.position,
        reason=None if waiting is None else waiting.reason,
        takeovers=held["takeovers"],
        worker=None if held["worker"] is None else {"name": held["worker"], "silent_for": held["silent_for"]},
        workers=len(await operator_queries.workers(db)),
        until_next_run=held["until_next_run"],
        retry_pays_again=found[0]["retry_pays_again"],
    )
    return Story(
        media=facts.media,
        owner={"id": found[0]["owner_id"], "name": found[0]["owner"]},
        facts=facts,
        attempts=attempts,
        history=[_decoded(row) for row in await queries.history(db, media.id, after=0, limit=MOST_EVENTS)],
        log=[_decoded(row) for row in await log_queries.newest(db, media.id, limit=log)],
    )


def _show_facts(story: Story) -> None:
    media, facts = story.media, story.facts
    prompt = media["prompt"] if len(media["prompt"]) <= MOST_PROMPT else f"{media['prompt'][:MOST_PROMPT]}…"
    lines: dict[str, str | Text] = {
        "Job": str(media["job_id"]),
        "Media": str(media["id"]),
        "Owner": story.owner["name"] or str(story.owner["id"]),
        "Status": coloured(media["status"]),
        "Why": why(facts),
        "Model": media["model"],
        "Prompt": prompt,
        "Input": msgspec.json.encode(media["input"]).decode(),
        "Metadata": msgspec.json.encode(media["metadata"]).decode() if media["metadata"] else "",
        "Terms": f"priority {media['priority']}, on_unknown {media['on_unknown']}",
        "Cost": _costs(story.attempts),
        "Asked for": moment(media["created_at"]),
        "Begun": moment(media["started_at"]),
        "Over": moment(media["completed_at"]),
        "Deadline": moment(media["deadline"]),
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
        say("No tries.")
        return
    rows = table("TRY", "STATUS", "SENT", "BEGUN (UTC)", ">TOOK", ">COST", ">EXPECTED", "PROVIDER'S ID, BILL, ERROR")
    for one in attempts:
        took = "" if one["finished_at"] is None else short(one["finished_at"] - one["created_at"])
        error = f"{one['error']['code']}: {one['error']['message']}" if one["error"] else ""
        rows.add_row(
            *(str(one["number"]), coloured(one["status"]), one["sent"] or "", moment(one["created_at"]), took),
            *(_amount(one, "cost"), _amount(one, "estimate")),
            "\n".join(filter(None, (one["external_id"], _billed_by(one), error))),
        )
    _show_folded(rows)


def _show_history(history: list[dict[str, Any]]) -> None:
    say()
    rows = table("AT (UTC)", "EVENT", "STATUS", "DETAIL")
    for one in history:
        detail: dict[str, Any] = one["detail"] or {}
        # The message of an error stands with its try.
        told = detail["code"] if "code" in detail else _pairs(detail)
        rows.add_row(moment(one["at"]), one["event"], coloured(one["status"]), told)
    _show_folded(rows)


def _show_log(log: list[dict[str, Any]]) -> None:
    if not log:
        return
    say()
    rows = table("AT (UTC)", "LEVEL", "TRY", "LOG", "FIELDS")
    for one in log:
        attempt = "" if one["attempt"] is None else str(one["attempt"])
        rows.add_row(moment(one["at"]), one["level"], attempt, one["event"], _pairs(one["fields"]))
    _show_folded(rows)


def _costs(attempts: list[dict[str, Any]]) -> str:
    """What its tries cost; of a purchase whose cost its provider does not tell, that."""
    told = [one["cost"] for one in attempts if one["cost"] is not None]
    currencies = {one["currency"] for one in attempts if one["cost"] is not None}
    bought = sum(one["external_id"] is not None for one in attempts)
    if not bought and not told:
        return ""
    silent = "" if len(told) >= bought else f"{bought - len(told)} of {bought} purchases without a cost"
    total = "in several currencies" if len(currencies) > 1 else ""
    if len(currencies) == 1:
        (currency,) = currencies
        total = f"{_dollars(sum(told, Decimal()))} {'US dollars' if currency == 'USD' else currency}"
    return ", ".join(filter(None, (total, silent)))


def _amount(row: asyncpg.Record | dict[str, Any], name: str) -> str:
    """An amount with its currency, for there may be several in one table."""
    return "" if row[name] is None else f"{_dollars(row[name])} {row['currency']}"


def _billed_by(attempt: dict[str, Any]) -> str:
    units: dict[str, float] = attempt["units"] or {}
    parts = [*(f"{number:g} {name}" for name, number in units.items()), attempt["cost_basis"] or ""]
    return ", ".join(filter(None, parts))


def _files(files: list[dict[str, Any]]) -> str:
    return "\n".join(f"{file['index']}: {file['media_type']}, {file['bytes']} bytes" for file in files)


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())


def _show_folded(rows: "Table") -> None:
    """Print a table whose last column goes on in the next line where there is no room."""
    for column in rows.columns:
        column.no_wrap = column is not rows.columns[-1]
    rows.columns[-1].overflow = "fold"
    show(rows)


def _dollars(cost: Decimal | None) -> str:
    return "" if cost is None else f"{cost.normalize():f}"


def _decoded(row: Row | asyncpg.Record) -> dict[str, Any]:
    fields = msgspec.structs.asdict(row) if isinstance(row, Row) else dict(row.items())
    return {
        name: msgspec.json.decode(value) if name in _JSON and isinstance(value, str) else value
        for name, value in fields.items()
    }
