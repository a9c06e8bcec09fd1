"""The audit: the database, the providers' books and the bucket, held against each other; see `violations.py`.

Recovery, by the database's clock, from `media_history` alone: from the last time that a worker claimed a media item and
then died with it (the `claimed` before its last `returned` with the reason `worker_gone`) to its final state. So it
holds what that worker still did, the silence that its lease allows, the next worker's work and the provider's time.
"""

import asyncio
import contextlib
import hashlib
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import httpx2

from app.embedded.process import ManagedProcess
from app.provenance.removal import remove_mark
from tests.crash.fleet import LOOK_SECONDS, PATIENCE_SECONDS, DatabaseAwayError, Fleet, until
from tests.crash.violations import FINAL, KINDS, Found, Row, Violation, end_of, violations, why_unknown

NOT_FINAL: Final = "SELECT id FROM media WHERE status NOT IN ('COMPLETED', 'ERROR', 'CANCELED')"
AT_WORK: Final = f"""SELECT m.id, m.status, m.number_of_tries, m.next_run FROM media m
WHERE starts_with(m.prompt, $1) AND m.id IN ({NOT_FINAL}) ORDER BY m.id"""
FOLLOWED: Final = """SELECT a.id, a.status, a.external_id, a.look_at IS NOT NULL AS is_followed
FROM attempts a JOIN media m ON m.id = a.media_id
WHERE starts_with(m.prompt, $1) AND m.status IN ('COMPLETED', 'ERROR', 'CANCELED') AND (a.status = 'SUBMITTED'
    OR $2 AND a.look_at IS NOT NULL AND a.model NOT LIKE 'blind/%') ORDER BY a.id"""
"""Attempts that are open although their media has ended; with `$2` also those whose purchase is looked up."""

MEDIA: Final = """SELECT m.id::text AS id, m.prompt, m.model, m.status, m.input::text AS input,
    m.error->>'code' AS code, m.error->>'message' AS message, m.metadata->>'key' AS key,
    m.completed_at AS ended_at, m.deadline IS NOT NULL AS has_deadline,
    coalesce((m.metadata->>'is_canceled')::boolean, false) AS is_canceled,
    (SELECT array_agg(f.source_sha256) FROM files f WHERE f.media_id = m.id) AS files,
    (SELECT array_agg(f.sha256) FROM files f WHERE f.media_id = m.id) AS served FROM media m"""
ATTEMPTS: Final = """SELECT a.id::text AS id, a.media_id::text AS media_id, a.number, a.status, a.model, a.sent,
    a.external_id, a.created_at, a.submitted_at, a.finished_at, m.prompt
    FROM attempts a JOIN media m ON m.id = a.media_id"""
RECOVERIES: Final = """
WITH lost AS (
    SELECT media_id, max(id) AS id FROM media_history
    WHERE event = 'returned' AND detail->>'reason' = 'worker_gone' GROUP BY media_id
), claimed AS (
    SELECT l.media_id, max(h.at) AS at FROM lost l JOIN media_history h ON h.media_id = l.media_id AND h.id < l.id
    WHERE h.event = 'claimed' GROUP BY l.media_id
), over AS (
    SELECT media_id, min(at) AS at FROM media_history WHERE status = ANY($1::text[]) GROUP BY media_id
)
SELECT c.media_id, o.at - c.at AS took FROM claimed c JOIN over o USING (media_id) ORDER BY took"""
STORY: Final = """SELECT h.at, h.event, h.status, h.worker_id, h.detail::text AS detail
    FROM media_history h WHERE h.media_id::text = $1 ORDER BY h.id"""
TRIES: Final = """
SELECT id, number, status, model, sent, external_id, created_at, submitted_at, finished_at, error::text AS error
    FROM attempts WHERE media_id::text = $1 ORDER BY number"""
QUIET_SECONDS: Final = 15.0
"""Without a change, after which those that follow up what has ended will find nothing more."""
FETCHED_AT_ONCE: Final = 8


@dataclass
class Verdict:
    """What the audit found."""

    accepted: int
    ends: Counter[str]
    """Final states, ERROR with its code."""
    bought: int
    by_mode: Counter[str]
    """What was bought, by how the provider treated it."""
    violations: list[Violation]
    unknown: Counter[str] = field(default_factory=Counter)
    """Why nobody could say what became of a purchase, where that is so."""
    recoveries: list[timedelta] = field(default_factory=list)
    """Of all media that a worker died with, from the quickest to the slowest."""
    slowest: str | None = None
    """The media of the last of them."""

    @property
    def holds(self) -> bool:
        """Whether the promise was kept."""
        return not self.violations

    @property
    def counts(self) -> dict[str, int]:
        """Violations by kind, also of those kinds of which there are none."""
        times = Counter(one.kind for one in self.violations)
        return {kind: times[kind] for kind in KINDS}

    @property
    def culprits(self) -> list[str]:
        """What is wrong, in words."""
        return [str(one) for one in self.violations]

    def as_json(self) -> dict[str, Any]:
        """For a report."""
        return {
            "accepted": self.accepted,
            "ends": self.ends,
            "bought": self.bought,
            "by_mode": self.by_mode,
            "counts": self.counts,
            "unknown": self.unknown,
            "violations": [one.as_json() for one in self.violations],
            "recoveries": [one.total_seconds() for one in self.recoveries],
        }


async def rest(fleet: Fleet, *, prefix: str = "", seconds: float = PATIENCE_SECONDS, aftercare: bool = False) -> None:
    """Wait until every media is final and every purchase fetched or over; what is not, the audit finds.

    Args:
        fleet: It works on them.
        prefix: Of the prompts that matter.
        seconds: How long at most nothing may change.
        aftercare: Wait also for those that look up what was unknown when its media ended; for what has ended only as
            long as that may still change anything.
    """
    seen, since = None, time.monotonic()
    while True:
        with contextlib.suppress(DatabaseAwayError):
            working = await fleet.fetch(AT_WORK, prefix)
            followed = await fleet.fetch(FOLLOWED, prefix, aftercare)
            if not working and not followed:
                return
            if (working, followed) != seen:
                seen, since = (working, followed), time.monotonic()
            if time.monotonic() - since > (seconds if working or not aftercare else QUIET_SECONDS):
                return
        if time.monotonic() - since > max(seconds, PATIENCE_SECONDS):
            return
        await asyncio.sleep(LOOK_SECONDS)


async def audit(fleet: Fleet, accepted: Iterable[str], *, prefix: str = "", sample: int | None = 20) -> Verdict:
    """Look at everything the fleet has done; call it when no worker has anything left to do.

    Args:
        fleet: Its API answers, and its database.
        accepted: The ids of the media that clients were promised.
        prefix: Of the prompts that matter.
        sample: Of how many completed media the file is fetched, as a client would; None: of all.
    """
    purchases = [one for one in (await fleet.books())["purchases"] if one["media"].startswith(prefix)]
    media, attempts = [
        await fleet.fetch_surely(f"{query} WHERE starts_with(m.prompt, $1)", prefix) for query in (MEDIA, ATTEMPTS)
    ]
    recoveries = await fleet.fetch_surely(RECOVERIES, FINAL)
    completed = [one for one in media if one["status"] == "COMPLETED"]
    fetched = completed if sample is None else random.sample(completed, min(sample, len(completed)))
    found = Found(media, attempts, purchases)
    unknown = [why_unknown(found, one) for one in media if one["code"] == "outcome_unknown"]
    ours = [one for one in purchases if one["attempt_id"]]
    return Verdict(
        accepted=len({*accepted}),
        ends=Counter(map(end_of, media)),
        bought=len(ours),
        by_mode=Counter(" ".join(filter(None, (one["provider"], one["mode"], one["output"]))) for one in ours),
        unknown=Counter(filter(None, unknown)),
        violations=[*violations(found, accepted), *await _unlike_their_rows(fleet, fetched)],
        recoveries=[one["took"] for one in recoveries],
        slowest=str(recoveries[-1]["media_id"]) if recoveries else None,
    )


async def story(fleet: Fleet, name: str) -> str:
    """All that is written down about the media of a prompt, or of an id."""
    lines = [f"-- {name}"]
    books = await fleet.books()
    for media in await fleet.fetch_surely(f"{MEDIA} WHERE m.prompt = $1 OR m.id::text = $1", name):
        lines.append(str(dict(media)))
        for query in (STORY, TRIES):
            rows = await fleet.fetch_surely(query, media["id"])
            lines += [" ".join(str(value) for value in row.values()) for row in rows]
        lines += [f"bought: {one}" for one in books["purchases"] if one["media"] == media["prompt"]]
    return "\n".join(lines)


async def died(fleet: Fleet, process: ManagedProcess, point: str, *prompts: str) -> None:
    """Wait until a process has killed itself; if it does not, tell what is known of it and of these media.

    Args:
        fleet: Its own.
        process: A worker, or the API.
        point: Where it dies.
        prompts: Of the media with which it dies.
    """
    await until(lambda: process.poll() is not None, seconds=PATIENCE_SECONDS)
    status = process.poll()
    if status == -signal.SIGKILL:
        return
    what = "it lives on" if status is None else f"it ended by itself, with status {status}"
    told = [await story(fleet, prompt) for prompt in prompts]
    raise AssertionError("\n".join([f"{what}: {process.pid}, which was to die at {point}", *told, fleet.logs()]))


async def _unlike_their_rows(fleet: Fleet, completed: Iterable[Row]) -> list[Violation]:
    """Media whose file, fetched as a client would, has other bytes than are written down, or is not there."""
    at_once = asyncio.Semaphore(FETCHED_AT_ONCE)

    async def fetch(media: Row) -> Violation | None:
        async with at_once:
            told = await _not_there(fleet, media)
        return None if told is None else Violation("inconsistent", media["id"], media["prompt"], told)

    return [one for one in await asyncio.gather(*map(fetch, completed)) if one is not None]


async def _not_there(fleet: Fleet, media: Row) -> str | None:
    try:
        answer = await fleet.web.get(f"/media/content/{media['id']}?index=0", follow_redirects=True)
    except httpx2.TransportError as error:
        return f"its file cannot be fetched: {error!r}"
    if answer.status_code != 200:
        return f"its file answers {answer.status_code}"
    if hashlib.sha256(answer.content).hexdigest() not in (media["served"] or ()):
        return "its file has other bytes than are written down"
    source = hashlib.sha256(b"".join(remove_mark([answer.content]))).hexdigest()
    return None if source in media["files"] else "its file without the mark is not what came from the provider"
