"""Delivery: sends what the outbox holds, from the event loop of a worker.

1. Deliveries that are due are taken for LEASE (`dispatch.py`); from here on this worker sends them.
2. The payload is made, signed and posted, once; 2xx alone is success, a redirect is not followed.
3. What came of it is written down: delivered, due again later, or given up.

If the worker dies after 1 or 2, another one takes the delivery when the lease is over: the receiver may get it twice,
under the same id. A bell wakes this loop when deliveries are written; a lost bell costs the interval.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import UUID

import asyncpg
import structlog

from app.core import clock
from app.core.database.group_commit import GroupCommit
from app.core.database.pool import UNAVAILABLE, DatabasePool
from app.core.database.text import storable
from app.core.task_cancellation import cancel_and_wait
from app.core.telemetry.metrics import WEBHOOK_ATTEMPTS
from app.webhooks import delivery_queries, retry_policy
from app.webhooks.circuit_breakers import CircuitBreakers
from app.webhooks.delivery_queries import OUTAGE, PATIENCE, Outcome
from app.webhooks.http_request import TIMEOUT_SECONDS, post
from app.webhooks.signing import headers

if TYPE_CHECKING:
    from app.core.http_client.client import HttpClient
    from app.core.http_client.protocol import Answer

log = structlog.get_logger(__name__)

SLOTS: Final = 1_000
"""Deliveries that one worker process sends at the same time."""
TIDY_SECONDS: Final = 600.0
RECORD_TRIES: Final = 5
RECORD_PAUSE_SECONDS: Final = 2.0
_TOO_FAST: Final = 0.01
"""Seconds between two looks: what comes in a burst is taken together."""


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery in this worker's hands."""

    id: UUID
    number: int
    """Of this try."""
    endpoint_id: UUID
    receiver: str
    url: str
    type: str
    media_id: UUID
    sequence: int
    at: datetime
    payload: str | None
    """None: it was never sent."""
    tried_for: timedelta
    """Since it was first due."""
    failing_for: timedelta
    """For how long its endpoint has failed."""
    secrets: tuple[str, ...] = field(repr=False)


Payloads: TypeAlias = Callable[[Sequence[ClaimedDelivery]], Awaitable[Sequence[bytes]]]
"""Makes the bodies of deliveries that were never sent."""


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How many at once, and how often."""

    per_receiver: int
    interval: timedelta
    """Between two looks when nobody rings."""
    lifetime: timedelta
    """How long deliveries are kept."""
    patience: timedelta
    """How long a stop waits for what is being sent."""


class Deliverer:
    """Takes, sends, records; `wake` is the bell."""

    def __init__(self, db: DatabasePool, http: "HttpClient", payloads: Payloads, pace: DeliverySettings) -> None:
        self._db = db
        self._http = http
        self._pace = pace
        self._record = GroupCommit[Outcome, None](
            lambda outcomes: delivery_queries.record(db, outcomes), shared=UNAVAILABLE
        )
        self._bell = asyncio.Event()
        self._body = GroupCommit[ClaimedDelivery, bytes](payloads, shared=UNAVAILABLE)
        self._sending = dict[UUID, tuple[ClaimedDelivery, asyncio.Task[None]]]()
        self._circuits = CircuitBreakers(pace.per_receiver)
        self._after = ""
        """Where the next walk along the receivers begins."""
        self._walk_at = 0.0
        self._loops: list[asyncio.Task[None]] = []

    @property
    def in_flight(self) -> int:
        """Deliveries being sent."""
        return len(self._sending)

    def wake(self) -> None:
        """Look for due deliveries now."""
        self._bell.set()

    async def start(self) -> None:
        """Begin; returns at once, also while the database is away."""
        self._loops = [asyncio.create_task(self._serve()), asyncio.create_task(self._tidy_on())]

    async def stop(self) -> None:
        """Take nothing more, wait a little for what is being sent, and give the rest back."""
        await cancel_and_wait(*self._loops)
        tasks = [task for _, task in self._sending.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=self._pace.patience.total_seconds())
        cut = [(taken.id, taken.number) for taken, task in self._sending.values() if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if cut:
            with contextlib.suppress(*UNAVAILABLE):
                await delivery_queries.give_back(self._db, cut, tried=True)

    async def _serve(self) -> None:
        while True:
            self._bell.clear()
            await _survives(self._round())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.interval.total_seconds()):
                    await self._bell.wait()
            await asyncio.sleep(_TOO_FAST)

    async def _round(self) -> None:
        """Take and begin to send: a walk once in an interval, a glance whenever somebody rings in between."""
        free = SLOTS - len(self._sending)
        if free <= 0:
            return
        walk = clock.seconds() >= self._walk_at
        scarce = free < SLOTS // 2
        rows = await delivery_queries.take(
            self._db,
            after=self._after if walk else None,
            room=self._circuits.room(scarce=scarce),
            per_receiver=1 if scarce else self._pace.per_receiver,
            limit=free,
        )
        if walk:
            self._walk_at = clock.seconds() + self._pace.interval.total_seconds()
            self._after = rows[0]["next_receiver"] or ""
        refused = [taken for row in rows if row["id"] is not None and not self._begin(taken := _taken(row))]
        if refused:
            await delivery_queries.give_back(self._db, [(taken.id, taken.number) for taken in refused], tried=False)

    def _begin(self, taken: ClaimedDelivery) -> bool:
        """Send it; False: its receiver has said meanwhile, while the database was asked, that it wants no more."""
        if taken.id in self._sending:
            return True
        if not self._circuits.has_room(taken.receiver):
            return False
        self._circuits.begin(taken.receiver)
        self._sending[taken.id] = taken, asyncio.create_task(self._deliver(taken))
        return True

    async def _tidy_on(self) -> None:
        """Now and then, beside the sending: what is old goes, what nobody will take any more is given up."""
        while True:
            await _survives(delivery_queries.fail_disabled(self._db))
            await _survives(delivery_queries.forget(self._db, self._pace.lifetime))
            self._circuits.forget()
            await asyncio.sleep(TIDY_SECONDS)

    async def _deliver(self, taken: ClaimedDelivery) -> None:
        try:
            outcome = await self._try(taken)
            await self._write_down(outcome)
            WEBHOOK_ATTEMPTS.observe(outcome.milliseconds / 1000, outcome.word)
            await self._consider(taken, outcome)
        except UNAVAILABLE as error:
            # Sent again when its lease is over, under the same id.
            log.warning("delivery_unrecorded", delivery_id=str(taken.id), error=type(error).__name__)
        except Exception:
            log.exception("delivery_broken", delivery_id=str(taken.id))
        finally:
            self._sending.pop(taken.id, None)
            if self._circuits.end(taken.receiver) or len(self._sending) >= SLOTS // 2:
                # There may be more for it, older than what a glance would see.
                self._walk_at = 0.0
                self._bell.set()

    async def _write_down(self, outcome: Outcome) -> None:
        """A short outage of the database costs no double."""
        for _ in range(RECORD_TRIES - 1):
            with contextlib.suppress(*UNAVAILABLE):
                return await self._record(outcome)
            await asyncio.sleep(RECORD_PAUSE_SECONDS)
        return await self._record(outcome)

    async def _try(self, taken: ClaimedDelivery) -> Outcome:
        try:
            body = taken.payload.encode() if taken.payload is not None else await self._body(taken)
        except UNAVAILABLE:
            raise
        except Exception:
            # Put off like any other failure: it must neither hold up others nor come back at once.
            log.exception("payload_broken", delivery_id=str(taken.id))
            body = None
        now, begun = datetime.now(UTC), time.perf_counter()
        answer: Answer | None = None
        error: str | None = "its payload could not be made"
        if body is not None:
            named = headers(taken.secrets, str(taken.id), int(now.timestamp()), body)
            answer, error = await post(self._http, taken.url, named, body)
        quiet = retry_policy.quiet(answer) if answer is not None and error is not None else None
        again = retry_policy.pause(taken.tried_for)
        return Outcome(
            delivery_id=taken.id,
            number=taken.number,
            url=taken.url,
            at=now,
            milliseconds=round((time.perf_counter() - begun) * 1000),
            status_code=None if answer is None else answer.status,
            error=error,
            answer="" if answer is None else storable(answer.body.decode(errors="replace")),
            payload=None if body is None else body.decode(),
            pause=again if quiet is None else max(again, quiet),
            quiet=quiet,
            gone=answer is not None and answer.status == HTTPStatus.GONE,
        )

    async def _consider(self, taken: ClaimedDelivery, outcome: Outcome) -> None:
        """What a try says of its receiver."""
        if outcome.error is not None:
            # An endpoint keeps its own rest in the database, where its owner can end it.
            own = taken.receiver == str(taken.endpoint_id)
            self._circuits.failed(taken.receiver, None if own else outcome.quiet)
            log.info("delivery_failed", delivery_id=str(taken.id), tries=taken.number, error=outcome.error)
            if outcome.gone:
                await delivery_queries.fail_disabled(self._db)
            return
        failed_for = max(self._circuits.succeeded(taken.receiver), taken.failing_for.total_seconds())
        if taken.number > 1:
            failed_for = max(failed_for, taken.tried_for.total_seconds())
        if failed_for >= OUTAGE.total_seconds():
            # Not after a short failure: one delivery that its receiver never takes would come back with each success.
            while await delivery_queries.release(self._db, taken.receiver):
                pass
            self._walk_at = 0.0
            self._bell.set()


async def _survives(work: Coroutine[Any, Any, None]) -> None:
    """Do it; whatever goes wrong, receivers go on being served."""
    try:
        await work
    except UNAVAILABLE as error:
        log.warning("database_unavailable", error=type(error).__name__)
    except Exception:
        log.exception("deliverer_stumbled")


def _taken(row: asyncpg.Record) -> ClaimedDelivery:
    return ClaimedDelivery(
        id=row["id"],
        number=row["tries"],
        endpoint_id=row["endpoint_id"],
        receiver=row["receiver"],
        url=row["url"],
        type=row["type"],
        media_id=row["media_id"],
        sequence=row["sequence"],
        at=row["at"],
        payload=row["payload"],
        tried_for=row["tried_for"],
        failing_for=row["failing_for"] or timedelta(0),
        secrets=tuple(secret for secret in (row["secret"], row["previous_secret"]) if secret is not None),
    )


assert delivery_queries.LEASE.total_seconds() > TIMEOUT_SECONDS + RECORD_TRIES * RECORD_PAUSE_SECONDS  # noqa: S101 - else two workers would send at the same time
assert retry_policy.LONGEST_PAUSE < PATIENCE  # noqa: S101 - else a receiver that is back would hear of nothing
