"""The audit: the database, the provider's books and the bucket, held against each other.

- lost: accepted (answered with 202), and not in the database;
- stuck: in the database, and not final when the patience was over;
- bought twice: a media item for which the provider was paid more than once, by the provider's own count;
- faults: whatever else does not agree.

Recovery, by the database's clock, from `media_history` alone: from the last time that a worker claimed a media item and
then died with it (the `claimed` before its last `returned` with the reason `worker_gone`) to its final state. So it
holds what that worker still did, the silence that its lease allows, the next worker's work and the provider's time.
"""

import asyncio
import hashlib
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import asyncpg
import msgspec

from app.embedded.process import ManagedProcess
from tests.crash.fleet import LOOK_SECONDS, PATIENCE_SECONDS, Fleet, until
from tests.crash.orders import CANCELED, DEADLINE, HELD, may_end

Row = asyncpg.Record
Books = Mapping[str, list[dict[str, Any]]]

FINAL: Final = ("COMPLETED", "ERROR", "CANCELED")
NOT_FINAL: Final = "SELECT id FROM media WHERE status NOT IN ('COMPLETED', 'ERROR', 'CANCELED')"
AT_WORK: Final = """SELECT m.id FROM media m LEFT JOIN attempts a ON a.media_id = m.id AND a.status = 'SUBMITTED'
WHERE starts_with(m.prompt, $1) AND (m.status NOT IN ('COMPLETED', 'ERROR', 'CANCELED') OR a.id IS NOT NULL)"""

MEDIA: Final = """SELECT m.id, m.prompt, m.model, m.status, m.input::text AS input, m.error->>'code' AS code,
    m.deadline IS NOT NULL AS has_deadline, (m.metadata->>'is_canceled')::boolean AS is_canceled,
    (SELECT array_agg(f.sha256) FROM files f WHERE f.media_id = m.id) AS files FROM media m"""
ATTEMPTS: Final = """SELECT a.id::text AS id, a.number, a.status, a.sent, a.external_id, m.prompt
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
    FROM media_history h WHERE h.media_id = $1 ORDER BY h.id"""
TRIES: Final = """
SELECT id, number, status, sent, external_id, created_at, submitted_at, finished_at, error::text AS error
    FROM attempts WHERE media_id = $1 ORDER BY number"""


@dataclass
class Verdict:
    """What the audit found."""

    accepted: int
    ends: Counter[str]
    """Final states, ERROR with its code."""
    lost: list[str]
    stuck: list[str]
    bought: int
    bought_twice: list[str]
    """Prompts."""
    faults: list[str]
    recoveries: list[timedelta] = field(default_factory=list)
    """Of all media that a worker died with, from the quickest to the slowest."""
    slowest: str | None = None
    """The media of the last of them."""

    @property
    def holds(self) -> bool:
        """Whether the promise was kept."""
        return not (self.lost or self.stuck or self.bought_twice or self.faults)

    @property
    def culprits(self) -> list[str]:
        """What is wrong, in words."""
        named = {"lost": self.lost, "stuck": self.stuck, "bought twice": self.bought_twice, "fault": self.faults}
        return [f"{what}: {one}" for what, found in named.items() for one in found]


async def rest(fleet: Fleet, *, prefix: str = "", seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until every media is final and every purchase fetched or over; what is not, the audit finds.

    Args:
        fleet: It works on them.
        prefix: Of the prompts that matter.
        seconds: How long at most.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and await fleet.fetch(AT_WORK, prefix):  # noqa: ASYNC110 - others work on them
        await asyncio.sleep(LOOK_SECONDS)


async def audit(fleet: Fleet, accepted: Iterable[str], *, prefix: str = "", sample: int = 20) -> Verdict:
    """Look at everything the fleet has done; call it when no worker has anything left to do.

    Args:
        fleet: Its API answers, and its database.
        accepted: The ids of the media that clients were promised.
        prefix: Of the prompts that matter.
        sample: Of how many completed media the file is fetched, as a client would.
    """
    everything = await fleet.books()
    books = {"purchases": [one for one in everything["purchases"] if one["media"].startswith(prefix)]}
    media, attempts = [
        await fleet.fetch(f"{query} WHERE starts_with(prompt, $1)", prefix) for query in (MEDIA, ATTEMPTS)
    ]
    recoveries = await fleet.fetch(RECOVERIES, FINAL)
    promised, known = set(accepted), {str(one["id"]) for one in media}
    paid = Counter(one["media"] for one in books["purchases"])
    completed = [one for one in media if one["status"] == "COMPLETED"]
    fetched = random.sample(completed, min(sample, len(completed)))
    return Verdict(
        accepted=len(promised),
        ends=Counter(_end(one) for one in media),
        lost=sorted(promised - known),
        stuck=[f"{one['prompt']} is {_end(one)}" for one in media if one["status"] not in FINAL],
        bought=len(books["purchases"]),
        bought_twice=[prompt for prompt, times in paid.items() if times > 1],
        faults=[
            *(fault for one in media for fault in _ended_wrongly(one, paid[one["prompt"]])),
            *_doubled(media),
            *_unaccounted(attempts, books),
            *_mixed_up(media, attempts, books),
            *[fault for one in fetched if (fault := await _not_there(fleet, one))],
        ],
        recoveries=[one["took"] for one in recoveries],
        slowest=str(recoveries[-1]["media_id"]) if recoveries else None,
    )


async def story(fleet: Fleet, prompt: str) -> str:
    """All that is written down about the media of a prompt."""
    lines = [f"-- {prompt}"]
    for media in await fleet.fetch(f"{MEDIA} WHERE m.prompt = $1 OR m.id::text = $1", prompt):
        lines.append(str(dict(media)))
        for query in (STORY, TRIES):
            lines += [" ".join(str(value) for value in row.values()) for row in await fleet.fetch(query, media["id"])]
        books = await fleet.books()
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


def _end(media: Row) -> str:
    return f"{media['status']} {media['code']}" if media["code"] else media["status"]


def _ended_wrongly(media: Row, paid: int) -> list[str]:
    """What is wrong with how one media ended, given how often it was paid."""
    if media["status"] not in FINAL:
        return []
    faults: list[str] = []
    end, plan = (media["status"], media["code"]), msgspec.json.decode(media["input"])
    terms = {name: media[name] for name in ("has_deadline", "is_canceled")}
    if end not in may_end(media["model"], plan, **terms):
        faults.append(f"{media['prompt']} may not end as {_end(media)}: {media['model']} {media['input']}")
    if paid == 0 and end not in {HELD, DEADLINE, CANCELED}:
        faults.append(f"{media['prompt']} is {_end(media)} and was never bought")
    if media["status"] == "COMPLETED" and len(media["files"] or ()) != 1:
        faults.append(f"{media['prompt']} is COMPLETED with files {media['files']}")
    return faults


def _doubled(media: Iterable[Row]) -> list[str]:
    """Requests that were written down twice, although they came under one key."""
    times = Counter(one["prompt"] for one in media)
    return [f"{prompt} is {count} media" for prompt, count in times.items() if count > 1]


def _unaccounted(attempts: Iterable[Row], books: Books) -> list[str]:
    """Purchases that our attempts do not tell of, and the other way round."""
    ours = {one["id"]: one for one in attempts}
    theirs = {one["attempt_id"]: one for one in books["purchases"]}
    faults = [
        f"{one['prompt']}: attempt {one['number']} names a purchase that the provider does not know"
        for one in ours.values()
        if one["external_id"] is not None and one["id"] not in theirs
    ]
    for attempt_id, bought in theirs.items():
        one = ours.get(attempt_id)
        if one is None or one["prompt"] != bought["media"]:
            faults.append(f"{bought['media']}: {bought['id']} was bought for an attempt that is not written down")
        elif one["sent"] == "NO":
            faults.append(f"{bought['media']}: attempt {one['number']} is said to have cost nothing")
        elif one["external_id"] not in {None, bought["id"]}:
            faults.append(f"{bought['media']}: {bought['id']} is written down as {one['external_id']}")
    return faults


def _mixed_up(media: Iterable[Row], attempts: Iterable[Row], books: Books) -> list[str]:
    """Media whose status, attempts and bytes do not belong together."""
    succeeded = Counter(one["prompt"] for one in attempts if one["status"] == "SUCCEEDED")
    submitted = Counter(one["prompt"] for one in attempts if one["status"] == "SUBMITTED")
    sums = {one["media"]: one["sha256"] for one in books["purchases"]}
    faults: list[str] = []
    for one in media:
        # Without being COMPLETED, too: what was paid and came too late is kept.
        files = one["files"] or []
        if succeeded[one["prompt"]] != len(files):
            faults.append(f"{one['prompt']}: {succeeded[one['prompt']]} attempts succeeded, {len(files)} files")
        if submitted[one["prompt"]] and one["status"] in FINAL:
            faults.append(f"{one['prompt']}: what was paid for is not fetched")
        if files and files != [sums.get(one["prompt"])]:
            faults.append(f"{one['prompt']} has other bytes than the provider made for it")
    return faults


async def _not_there(fleet: Fleet, media: Row) -> str | None:
    """What is wrong with the file of a completed media, fetched as a client would."""
    answer = await fleet.web.get(f"/media/content/{media['id']}?index=0", follow_redirects=True)
    if answer.status_code != 200:
        return f"{media['prompt']}: its file answers {answer.status_code}"
    same = hashlib.sha256(answer.content).hexdigest() in (media["files"] or ())
    return None if same else f"{media['prompt']}: its file has other bytes than are written down"
