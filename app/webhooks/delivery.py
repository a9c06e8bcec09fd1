"""Delivery: sends what is in the outbox, from the event loop of a worker.

1. Due deliveries are claimed for LEASE (`delivery_queries.py`); from here on this worker sends them.
2. The payload is made, signed and posted once; only 2xx is a success, redirects are not followed.
3. The outcome is committed: delivered, due again later, or failed.

If the worker dies after 1 or 2, another one claims the delivery when the lease ends: the receiver may get it twice,
under the same id. A wake-up signal starts the loop when deliveries are written; a lost one costs the interval.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import UUID

import structlog

from app.core import clock
from app.core.database.group_commit import GroupCommit
from app.core.database.pool import UNAVAILABLE, DatabasePool
from app.core.database.text import storable
from app.core.redaction import redacted
from app.core.task_cancellation import cancel_and_wait
from app.core.telemetry.metrics import WEBHOOK_ATTEMPTS
from app.webhooks import delivery_queries, retry_policy
from app.webhooks.circuit_breakers import CircuitBreakers
from app.webhooks.delivery_queries import OUTAGE, RETRY_WINDOW, ClaimedDelivery, Outcome
from app.webhooks.http_request import TIMEOUT_SECONDS, post
from app.webhooks.signing import headers

if TYPE_CHECKING:
    from app.core.http_client.client import HttpClient
    from app.core.http_client.protocol import Answer

log = structlog.get_logger(__name__)

SLOTS: Final = 1_000
"""Deliveries that one worker process sends at the same time."""
CLEAN_UP_SECONDS: Final = 600.0
RECORD_ATTEMPTS: Final = 5
RECORD_PAUSE_SECONDS: Final = 2.0
_MIN_PAUSE: Final = 0.01
"""Seconds between two claims: a burst of events is claimed together."""

Payloads: TypeAlias = Callable[[Sequence[ClaimedDelivery]], Awaitable[Sequence[bytes]]]
"""Makes the bodies of deliveries that have not been sent yet."""


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How many deliveries at the same time, and how often to check for more."""

    per_receiver: int
    interval: timedelta
    """Between two scans without a wake-up signal."""
    lifetime: timedelta
    """How long deliveries are kept."""
    shutdown_timeout: timedelta
    """How long `stop` waits for what is being sent."""


class Deliverer:
    """Claims, sends and records deliveries; `wake` is the wake-up signal."""

    def __init__(self, db: DatabasePool, http: "HttpClient", payloads: Payloads, settings: DeliverySettings) -> None:
        self._db = db
        self._http = http
        self._settings = settings
        self._record = GroupCommit[Outcome, None](
            lambda outcomes: delivery_queries.record(db, outcomes), shared=UNAVAILABLE
        )
        self._wake_up = asyncio.Event()
        self._body = GroupCommit[ClaimedDelivery, bytes](payloads, shared=UNAVAILABLE)
        self._sending = dict[UUID, tuple[ClaimedDelivery, asyncio.Task[None]]]()
        self._circuits = CircuitBreakers(settings.per_receiver)
        self._scan_after = ""
        """The receiver after which the next scan starts."""
        self._next_scan_at = 0.0
        self._loops: list[asyncio.Task[None]] = []

    @property
    def in_flight(self) -> int:
        """Deliveries being sent."""
        return len(self._sending)

    def wake(self) -> None:
        """Check for due deliveries now."""
        self._wake_up.set()

    async def start(self) -> None:
        """Start; returns at once, also while the database is unreachable."""
        self._loops = [asyncio.create_task(self._run()), asyncio.create_task(self._clean_up_regularly())]

    async def stop(self) -> None:
        """Claim nothing more, wait for what is being sent (`shutdown_timeout`), and return the other claims."""
        await cancel_and_wait(*self._loops)
        tasks = [task for _, task in self._sending.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=self._settings.shutdown_timeout.total_seconds())
        unfinished = [(delivery.id, delivery.number) for delivery, task in self._sending.values() if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if unfinished:
            with contextlib.suppress(*UNAVAILABLE):
                await delivery_queries.return_claims(self._db, unfinished, sent=True)

    async def _run(self) -> None:
        while True:
            self._wake_up.clear()
            await _keep_going(self._claim_and_send())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.interval.total_seconds()):
                    await self._wake_up.wait()
            await asyncio.sleep(_MIN_PAUSE)

    async def _claim_and_send(self) -> None:
        """Scan all receivers once in an interval; on a wake-up in between, check only what became due last."""
        free = SLOTS - len(self._sending)
        if free <= 0:
            return
        scan = clock.seconds() >= self._next_scan_at
        scarce = free < SLOTS // 2
        claim = await delivery_queries.claim(
            self._db,
            after=self._scan_after if scan else None,
            capacities=self._circuits.capacities(scarce=scarce),
            per_receiver=1 if scarce else self._settings.per_receiver,
            limit=free,
        )
        if scan:
            self._next_scan_at = clock.seconds() + self._settings.interval.total_seconds()
            self._scan_after = claim.next_receiver or ""
        refused = [(found.id, found.number) for found in claim.deliveries if not self._start_sending(found)]
        if refused:
            await delivery_queries.return_claims(self._db, refused, sent=False)

    def _start_sending(self, delivery: ClaimedDelivery) -> bool:
        """False: its receiver's circuit has opened, or has become full, during the claim."""
        if delivery.id in self._sending:
            return True
        if not self._circuits.has_capacity(delivery.receiver):
            return False
        self._circuits.begin(delivery.receiver)
        self._sending[delivery.id] = delivery, asyncio.create_task(self._deliver(delivery))
        return True

    async def _clean_up_regularly(self) -> None:
        """Delete old deliveries, and fail those of disabled endpoints, every CLEAN_UP_SECONDS."""
        while True:
            await _keep_going(delivery_queries.fail_disabled(self._db))
            await _keep_going(delivery_queries.delete_old(self._db, self._settings.lifetime))
            self._circuits.forget()
            await asyncio.sleep(CLEAN_UP_SECONDS)

    async def _deliver(self, delivery: ClaimedDelivery) -> None:
        try:
            outcome = await self._attempt(delivery)
            await self._record_with_retries(outcome)
            WEBHOOK_ATTEMPTS.observe(outcome.milliseconds / 1000, outcome.word)
            await self._update_circuit(delivery, outcome)
        except UNAVAILABLE as error:
            # Sent again when its lease ends, under the same id.
            log.warning("delivery_outcome_not_recorded", delivery_id=str(delivery.id), error=type(error).__name__)
        except Exception:
            log.exception("delivery_crashed", delivery_id=str(delivery.id))
        finally:
            self._sending.pop(delivery.id, None)
            if self._circuits.end(delivery.receiver) or len(self._sending) >= SLOTS // 2:
                # More may be due than the check of the newest would find.
                self._next_scan_at = 0.0
                self._wake_up.set()

    async def _record_with_retries(self, outcome: Outcome) -> None:
        """Retry, so that a short outage of the database causes no duplicate."""
        for _ in range(RECORD_ATTEMPTS - 1):
            with contextlib.suppress(*UNAVAILABLE):
                return await self._record(outcome)
            await asyncio.sleep(RECORD_PAUSE_SECONDS)
        return await self._record(outcome)

    async def _attempt(self, delivery: ClaimedDelivery) -> Outcome:
        try:
            body = delivery.payload.encode() if delivery.payload is not None else await self._body(delivery)
        except UNAVAILABLE:
            raise
        except Exception:
            # A failure like any other: it must neither hold up other deliveries nor be retried at once.
            log.exception("delivery_payload_failed", delivery_id=str(delivery.id))
            body = None
        now, begun = clock.now(), time.perf_counter()
        answer: Answer | None = None
        error: str | None = "making its payload failed; this is a bug in Fleek"
        if body is not None:
            signed = headers(delivery.secrets, str(delivery.id), int(now.timestamp()), body)
            answer, error = await post(self._http, delivery.url, signed, body)
        retry_after = retry_policy.retry_after(answer) if answer is not None and error is not None else None
        backoff = retry_policy.backoff(delivery.tried_for)
        return Outcome(
            delivery_id=delivery.id,
            number=delivery.number,
            url=delivery.url,
            at=now,
            milliseconds=round((time.perf_counter() - begun) * 1000),
            status_code=None if answer is None else answer.status,
            error=error,
            answer="" if answer is None else _shown(answer.body, delivery.secrets),
            payload=None if body is None else body.decode(),
            backoff=backoff if retry_after is None else max(backoff, retry_after),
            retry_after=retry_after,
            gone=answer is not None and answer.status == HTTPStatus.GONE,
        )

    async def _update_circuit(self, delivery: ClaimedDelivery, outcome: Outcome) -> None:
        """Record what an attempt says about its receiver."""
        if outcome.error is not None:
            # The Retry-After of an endpoint is in the database, where its owner can reset it.
            own = delivery.receiver == str(delivery.endpoint_id)
            self._circuits.failed(delivery.receiver, None if own else outcome.retry_after)
            log.info("delivery_failed", delivery_id=str(delivery.id), attempt=delivery.number, error=outcome.error)
            if outcome.gone:
                await delivery_queries.fail_disabled(self._db)
            return
        failed_for = max(self._circuits.succeeded(delivery.receiver), delivery.failing_for.total_seconds())
        if delivery.number > 1:
            failed_for = max(failed_for, delivery.tried_for.total_seconds())
        if failed_for >= OUTAGE.total_seconds():
            # Not after a short failure: a delivery that is always refused would be sent again with each success.
            while await delivery_queries.expedite(self._db, delivery.receiver):
                pass
            self._next_scan_at = 0.0
            self._wake_up.set()


def _shown(body: bytes, secrets: Sequence[str]) -> str:
    """The start of an answer as its endpoint's owner sees it: without our secrets, or those of the endpoint."""
    return str(redacted(storable(body.decode(errors="replace")), also=secrets))


async def _keep_going(work: Coroutine[Any, Any, None]) -> None:
    """Log whatever goes wrong, so that the loop continues."""
    try:
        await work
    except UNAVAILABLE as error:
        log.warning("database_unavailable", error=type(error).__name__)
    except Exception:
        log.exception("deliverer_failed")


assert delivery_queries.LEASE.total_seconds() > TIMEOUT_SECONDS + RECORD_ATTEMPTS * RECORD_PAUSE_SECONDS  # noqa: S101 - else two workers would send at the same time
assert retry_policy.MAX_BACKOFF < RETRY_WINDOW  # noqa: S101 - else a receiver that recovers would get no attempt
