"""Aftercare: purchases whose media ended before them, after a deadline or with an outcome that nobody knew.

Crosses database, provider and store, a little at each look; nobody owns such an attempt.

1. take: `look_at` moves ahead. A crash from here on costs the time until then.
2. Without an external id: the provider is asked for it, as `purchasing.py` does.
3. The provider is told to stop, once, where nobody waits for the result.
4. It is polled. A failure, or that it stopped, closes the attempt.
5. A result is copied and committed together with the attempt's end: the media stays what it is, and a retry
   by its owner completes it without buying again.
After `late_result` nobody looks any more.
"""

import asyncio
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
import structlog

from app.core.database.pool import DatabasePool
from app.core.task_cancellation import end
from app.core.telemetry import tracing
from app.jobs.billing import bill
from app.jobs.callbacks.urls import CallbackUrls
from app.jobs.execution.failures import as_json
from app.jobs.execution.job import OpenAttempt, open_attempt
from app.jobs.execution.submission import MARGIN, ask, record_purchase
from app.jobs.inputs.references import places
from app.jobs.metrics import counters, recording
from app.jobs.outputs.ingest import LONGEST_COPY, CopyDelayedError, ObjectKeys, OutputIngest
from app.jobs.policies import JobPolicy
from app.jobs.states import SUSPECT_FROM, AttemptStatus
from app.jobs.transitions import late_attempts
from app.jobs.transitions.commands import AttemptOutcome, LateResult
from app.jobs.transitions.group_commit import Writes
from app.media_generator import adapter_calls
from app.media_generator.errors import NotReachedError, OutputError, ProviderError
from app.media_generator.media_generator_model import CancelAnswer, Canceled, Failed, Reference, Submission, Succeeded
from app.media_generator.registry import Offer, Registry, UnknownModelError

log = structlog.get_logger(__name__)

AT_ONCE: Final = 50
"""Attempts that one process looks at at the same time."""
PAUSE: Final = timedelta(seconds=5)
"""Between two looks at one attempt."""
LONGEST_LOOK: Final = LONGEST_COPY + 300.0
"""Seconds after which a look is broken off; a result that is there has the time for its copy."""
MOST_LOOKS: Final = 2
"""Looks in a row that may fail to come to an end, before nobody dares another."""


class LateResults:
    """Looks after attempts; any number of workers may."""

    def __init__(
        self, db: DatabasePool, writes: Writes, registry: Registry, copier: OutputIngest, rules: JobPolicy
    ) -> None:
        self._db = db
        self._writes = writes
        self._registry = registry
        self._copier = copier
        self._rules = rules
        self._addresses = CallbackUrls(db, rules)
        self._looks = dict[UUID, asyncio.Task[None]]()

    async def round(self) -> None:
        """Begin to look at whatever is due; one that takes long holds up no other."""
        room = AT_ONCE - len(self._looks)
        if room <= 0:
            return
        for row in await late_attempts.take(self._db, limit=room, pause=PAUSE, in_hand=list(self._looks)):
            task = asyncio.create_task(self._look(row))
            self._looks[row["attempt_id"]] = task
            task.add_done_callback(self._ended)

    def _ended(self, ended: "asyncio.Task[None]") -> None:
        self._looks = {attempt_id: task for attempt_id, task in self._looks.items() if task is not ended}

    async def close(self) -> None:
        """Look no longer; whoever comes next goes on."""
        await end(*self._looks.values())

    async def _look(self, row: asyncpg.Record) -> None:
        structlog.contextvars.bind_contextvars(media_id=str(row["id"]), attempt=row["attempt_number"])
        attempt = open_attempt(row)
        if row["looks"] > MOST_LOOKS or row["takeovers"] >= SUSPECT_FROM:
            log.error("late_purchase_forsaken", looks=row["looks"], takeovers=row["takeovers"])
            await late_attempts.forsake(self._db, attempt.id, bought=attempt.reference is not None)
            return
        try:
            async with asyncio.timeout(LONGEST_LOOK):
                with tracing.span("look after purchase", media_id=str(row["id"]), model=row["model"]):
                    await self._look_at(row, attempt)
        except Exception as error:  # noqa: BLE001 - whatever it is, there is a next time
            log.warning("aftercare_failed", error=repr(error))
        await late_attempts.looked(self._db, attempt.id)
        if row["over_since"] > self._rules.late_result:
            await late_attempts.forsake(self._db, attempt.id, bought=attempt.reference is not None)

    async def _look_at(self, row: asyncpg.Record, attempt: OpenAttempt) -> None:
        try:
            offer = self._registry.find(row["model"])
        except UnknownModelError:
            return
        if attempt.reference is not None:
            await self._follow(row, offer, attempt, attempt.reference)
        elif attempt.age >= offer.provider.capabilities.submit_timeout.total_seconds() + MARGIN:
            # Before that the call may be in the air; whoever makes it writes down what it brings.
            await self._find(row, offer, attempt)

    async def _find(self, row: asyncpg.Record, offer: Offer, attempt: OpenAttempt) -> None:
        can = offer.provider.capabilities
        given = msgspec.json.decode(row["input"])
        # To ask once more takes the files of the input, for which nobody waits any longer.
        once_more = can.idempotent_submit and not any(places(offer.card.input_schema, given))
        name = row["model"].partition("/")[2]
        address = await self._addresses.of(offer.provider, attempt.id)
        submission = Submission(attempt.id, attempt.number, name, row["prompt"], given, address)
        if can.findable or once_more:
            answer = await ask(offer, submission, attempt)
        else:
            answer = (
                await adapter_calls.find(offer.provider, submission, attempt.created_at) if can.keeps_answers else None
            )
            if answer is None:
                # Its call is over: what has not come by now never will.
                await late_attempts.forsake(self._db, attempt.id, bought=False)
                return
        if isinstance(answer, Reference):
            await record_purchase(self._writes, attempt, answer)
        elif answer is None:
            await self._fail(row, attempt, NotReachedError(f"{offer.provider.name} never got the request"))
        else:
            log.info("late_purchase_not_found_yet", error=answer)

    async def _follow(self, row: asyncpg.Record, offer: Offer, attempt: OpenAttempt, reference: Reference) -> None:
        if row["stop"]:
            answer = await adapter_calls.cancel(offer.provider, reference)
            log.info("stop_answered", answer=answer)
            if answer is CancelAnswer.CANCELED:
                await self._end(row, AttemptOutcome(attempt.id, AttemptStatus.CANCELED, "YES"))
                return
            if answer is not None:
                await late_attempts.told_to_stop(self._db, attempt.id)
        if row["over_since"] > self._rules.late_result:
            return
        outcome = await adapter_calls.poll(offer.provider, reference)
        if isinstance(outcome, Succeeded):
            await self._store(row, offer, attempt, outcome)
        elif isinstance(outcome, Failed | Canceled):
            await self._without_result(row, attempt, outcome)
            if not (isinstance(outcome, Failed) and isinstance(outcome.error, OutputError)):
                await adapter_calls.settled(offer.provider, reference)

    async def _without_result(self, row: asyncpg.Record, attempt: OpenAttempt, outcome: Failed | Canceled) -> None:
        if isinstance(outcome, Failed):
            await self._fail(row, attempt, outcome.error)
        else:
            await self._end(row, AttemptOutcome(attempt.id, AttemptStatus.CANCELED, "YES", bill=bill(None, outcome)))

    async def _store(self, row: asyncpg.Record, offer: Offer, attempt: OpenAttempt, succeeded: Succeeded) -> None:
        billed = bill(offer.card, succeeded)
        if row["stored"]:
            # Another purchase for the same media was quicker; that this one was paid is worth knowing.
            await self._end(row, AttemptOutcome(attempt.id, AttemptStatus.SUCCEEDED, "YES", bill=billed))
            return
        folder = ObjectKeys(row["id"], row["created_at"], attempt.number)
        try:
            files = await self._copier.copy_all(offer.provider, succeeded.outputs, folder, offer.card.output_types)
        except CopyDelayedError:
            return
        except ProviderError as error:
            await self._fail(row, attempt, error)
            return
        if await late_attempts.store(self._db, LateResult(attempt.id, row["id"], files, billed)):
            log.info("late_result_stored", files=len(files))
            recording.attempt_ended(row["model"], AttemptStatus.SUCCEEDED, cost=billed.dollars)
            recording.files_stored(row["model"], files)
            await counters.add(self._db, counters.PersistedCounter.LATE_STORED, 1)
            if attempt.reference is not None:
                await adapter_calls.settled(offer.provider, attempt.reference)

    async def _fail(self, row: asyncpg.Record, attempt: OpenAttempt, error: ProviderError) -> None:
        await self._end(
            row, AttemptOutcome(attempt.id, AttemptStatus.FAILED, error.sent, as_json(error)), code=error.code
        )

    async def _end(self, row: asyncpg.Record, closing: AttemptOutcome, *, code: str = "") -> None:
        await self._writes.close(closing)
        recording.attempt_ended(row["model"], closing.status, code=code, cost=closing.bill.dollars)
