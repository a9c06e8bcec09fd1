"""Why a job is where it is, in a sentence or two that can be passed on to a customer."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from app.cli.tables import moment, short
from app.jobs.queries import MOST_AHEAD
from app.jobs.states import OPEN_ATTEMPT, SUSPECT_FROM, CancelAnswer, MediaStatus, MoneySpent


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a job at one moment."""

    media: dict[str, Any]
    attempts: list[dict[str, Any]]
    position: int | None
    """How many come before it."""
    reason: Mapping[str, str] | None
    """Why nothing is bought for it now."""
    takeovers: int
    """How many workers died with it in hand."""
    worker: dict[str, Any] | None
    """Who holds it: `name`, `silent_for`; None: nobody, or a worker whose row is gone."""
    workers: int
    """How many report."""
    until_next_run: timedelta
    """Below zero: it is due."""
    retry_pays_again: str | None
    """A MoneySpent: whether another try would be paid a second time."""


def why(facts: Facts) -> str:
    """What it waits for, who has it, or how it ended."""
    status = facts.media["status"]
    if status == MediaStatus.IN_QUEUE:
        said = [_waits(facts)]
    elif status == MediaStatus.PROCESSING:
        said = [_held(facts)]
    else:
        said = [_over(facts)]
    return " ".join([*said, *_canceling(facts)])


def _waits(facts: Facts) -> str:
    if facts.reason is not None and _open(facts) is None:
        return f"Nothing is bought for it now: {facts.reason['message']} ({facts.reason['code']})."
    if not facts.workers:
        return "No worker reports to the database: start one with fleek worker."
    if facts.until_next_run > timedelta(0):
        error = facts.media["error"]
        last = f"; the last one failed: {error['message']} ({error['code']})" if error else ""
        return f"Its next try is due in {short(facts.until_next_run)}{last}."
    if facts.takeovers >= SUSPECT_FROM:
        return f"{facts.takeovers} workers died with it in hand, so it is worked on apart from the others."
    position = {None: "", MOST_AHEAD: f"; {MOST_AHEAD} jobs or more come before it"}
    return f"It waits for its turn{position.get(facts.position, f'; {facts.position} come before it')}."


def _held(facts: Facts) -> str:
    if facts.worker is None:
        return "The worker that had it is gone; another one takes it over within LEASE_SECONDS."
    who = f"Worker {facts.worker['name']} has it, heard {short(facts.worker['silent_for'])} ago"
    attempt = _open(facts)
    if attempt is None:
        return f"{who}."
    if attempt["external_id"] is None:
        return f"{who}; try {attempt['number']} was begun, and whether it was bought is not known yet."
    return f"{who}; bought as {attempt['external_id']}, and waited for since {moment(attempt['submitted_at'])}."


def _over(facts: Facts) -> str:
    if facts.media["status"] == MediaStatus.COMPLETED:
        return "Its files are in the bucket."
    error = facts.media["error"]
    said = f"{error['message']} ({error['code']})." if error else "It was cancelled."
    if facts.media["files"]:
        return f"{said} Its result came late and is kept: fleek jobs retry completes it for nothing."
    if facts.retry_pays_again == MoneySpent.MAYBE:
        return f"{said} It may have been paid: fleek jobs retry may pay a second time."
    return said


def _canceling(facts: Facts) -> list[str]:
    cancel = facts.media["cancel"]
    if cancel is None or facts.media["status"] == MediaStatus.CANCELED:
        return []
    asked = cancel["answer"] == CancelAnswer.REQUESTED
    return ["Its owner wants it stopped." if asked else "Its owner wanted it stopped, too late."]


def _open(facts: Facts) -> dict[str, Any] | None:
    return next((one for one in facts.attempts if one["status"] in OPEN_ATTEMPT), None)
