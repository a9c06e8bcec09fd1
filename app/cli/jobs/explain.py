"""Explains the state of a job in a sentence or two that can be passed on to a customer."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from app.cli.tables import short_duration, timestamp
from app.jobs.queries import MOST_AHEAD
from app.jobs.states import OPEN_ATTEMPT, SUSPECT_FROM, CancelAnswer, MediaStatus, MoneySpent


@dataclass(frozen=True, slots=True)
class Facts:
    """What the explanation is made from, read at one moment."""

    media: dict[str, Any]
    attempts: list[dict[str, Any]]
    position: int | None
    """How many jobs are ahead of it."""
    reason: Mapping[str, str] | None
    """Why it is not submitted to the provider now: `code` and `message`; None: no reason."""
    takeovers: int
    """How many workers died while holding it."""
    worker: dict[str, Any] | None
    """The worker that holds it: `name`, `since_heartbeat`; None: none, or one that has been removed."""
    workers: int
    """How many workers report to the database."""
    until_next_run: timedelta
    """Negative: it is due."""
    retry_pays_again: str | None
    """A MoneySpent: whether another attempt would be charged again."""


def why(facts: Facts) -> str:
    """What it waits for, which worker holds it, or how it ended."""
    status = facts.media["status"]
    if status == MediaStatus.IN_QUEUE:
        sentence = _queued(facts)
    elif status == MediaStatus.PROCESSING:
        sentence = _processing(facts)
    else:
        sentence = _finished(facts)
    return " ".join([sentence, *_cancel_request(facts)])


def _queued(facts: Facts) -> str:
    if facts.reason is not None and _open_attempt(facts) is None:
        return f"It is not submitted at the moment: {facts.reason['message']} ({facts.reason['code']})."
    if not facts.workers:
        return "No worker is running: start one with fleek worker."
    if facts.until_next_run > timedelta(0):
        error = facts.media["error"]
        last = f"; the last one failed: {error['message']} ({error['code']})" if error else ""
        return f"The next attempt is due in {short_duration(facts.until_next_run)}{last}."
    if facts.takeovers >= SUSPECT_FROM:
        return f"{facts.takeovers} workers died while holding it, so it runs in isolation from other jobs."
    position = {None: "", 1: "; 1 job is ahead of it", MOST_AHEAD: f"; {MOST_AHEAD} or more jobs are ahead of it"}
    return f"It waits in the queue{position.get(facts.position, f'; {facts.position} jobs are ahead of it')}."


def _processing(facts: Facts) -> str:
    if facts.worker is None:
        return "The worker that held it is gone; another worker claims it within LEASE_SECONDS."
    who = f"Held by worker {facts.worker['name']}, last heartbeat {short_duration(facts.worker['since_heartbeat'])} ago"
    attempt = _open_attempt(facts)
    if attempt is None:
        return f"{who}."
    if attempt["external_id"] is None:
        return (
            f"{who}; attempt {attempt['number']} was started, and it is not known yet whether the provider accepted it."
        )
    return (
        f"{who}; submitted as {attempt['external_id']} at {timestamp(attempt['submitted_at'])}, waiting for the result."
    )


def _finished(facts: Facts) -> str:
    if facts.media["status"] == MediaStatus.COMPLETED:
        return "Its files are in the bucket."
    error = facts.media["error"]
    reason = f"{error['message']} ({error['code']})." if error else "It was cancelled."
    if facts.media["files"]:
        return f"{reason} Its result arrived late and is stored: fleek jobs retry completes it at no cost."
    if facts.retry_pays_again == MoneySpent.MAYBE:
        return f"{reason} It may have been charged: after fleek jobs retry it may be charged again."
    return reason


def _cancel_request(facts: Facts) -> list[str]:
    cancel = facts.media["cancel"]
    if cancel is None or facts.media["status"] == MediaStatus.CANCELED:
        return []
    requested = cancel["answer"] == CancelAnswer.REQUESTED
    return ["A cancel request is pending." if requested else "A cancel request came too late."]


def _open_attempt(facts: Facts) -> dict[str, Any] | None:
    return next((one for one in facts.attempts if one["status"] in OPEN_ATTEMPT), None)
