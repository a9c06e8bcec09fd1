"""Late results: purchases whose media ended before them, after a deadline or with an unknown outcome.

Crosses database, provider and store, a little at each check; no worker owns such an attempt.

1. take: `look_at` moves ahead. A crash from here on costs the time until then.
2. Without an external id: the provider is asked for it, as in `reconciliation.py`.
3. The provider is asked to stop, once, where nobody waits for the result.
4. It is polled. A failure, or that it stopped, closes the attempt.
5. A result is copied and committed together with the attempt's end: the media stays what it is, and a retry by its
   owner completes it without submitting again.
After `late_result` it is abandoned.
"""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Final
from uuid import UUID

import msgspec
import structlog

from app.core import clock
from app.core.database.pool import DatabasePool
from app.core.task_cancellation import cancel_and_wait
from app.core.telemetry import tracing
from app.jobs.billing import attempt_cost
from app.jobs.callbacks.urls import CallbackUrls
from app.jobs.execution.answer_keeper import AnswerKeeper
from app.jobs.execution.failures import MOST_UNREADABLE, as_json, unreadable_answer
from app.jobs.execution.job import OpenAttempt, open_attempt
from app.jobs.execution.reconciliation import MARGIN, find_purchase
from app.jobs.inputs.references import file_places
from app.jobs.job_errors import with_next_step
from app.jobs.metrics import counters, recording
from app.jobs.notices import outputs_left_out, stored
from app.jobs.outputs.earlier_copies import earlier_copies, record_copies
from app.jobs.outputs.ingest import CopiedOutputs, CopyDelayedError, CopyRequest, ObjectKeys, OutputIngest
from app.jobs.policies import JobPolicy
from app.jobs.states import SUSPECT_FROM, AttemptStatus
from app.jobs.transitions import late_attempts
from app.jobs.transitions.late_attempts import AttemptOutcome, LateAttempt, LateResult
from app.media_generator import adapter_calls
from app.media_generator.errors import NotReachedError, ProviderError, Sent
from app.media_generator.media_generator_model import (
    CancelAnswer,
    Canceled,
    Failed,
    Reference,
    Running,
    Submission,
    Succeeded,
)
from app.media_generator.registry import Offer, Registry, UnknownModelError

log = structlog.get_logger(__name__)

AT_ONCE: Final = 50
"""Attempts that one process checks at the same time."""
PAUSE: Final = timedelta(seconds=5)
"""Between two checks of one attempt."""
MORE_THAN_A_COPY: Final = 300.0
"""Seconds after which a check is cut off, besides those that the copy of a result may take."""
MOST_UNFINISHED_CHECKS: Final = 2
"""Checks in a row of a poison suspect that may fail to finish; then it is abandoned, as it kills the workers."""


class LateResults:
    """Follows up late attempts; any number of workers may."""

    def __init__(
        self, db: DatabasePool, registry: Registry, policy: JobPolicy, ingest: OutputIngest, answers: AnswerKeeper
    ) -> None:
        self._db = db
        self._answers = answers
        self._registry = registry
        self._policy = policy
        self._ingest = ingest
        self._callback_urls = CallbackUrls(db, policy)
        self._checks = dict[UUID, asyncio.Task[None]]()
        self._suspect_since = dict[UUID, float]()
        """By attempt: when its output first arrived damaged, by this process's `clock`."""
        self._unreadable_polls = dict[UUID, int]()
        """By attempt: polls in a row whose answers could not be read."""

    async def adopt(self) -> None:
        """Follow up attempts that were overlooked when their media ended."""
        await late_attempts.adopt(self._db, within=self._policy.late_result)

    async def start_due_checks(self) -> None:
        """Begin to check whatever is due; a check that takes long holds up no other."""
        room = AT_ONCE - len(self._checks)
        if room <= 0:
            return
        for row in await late_attempts.take_due(self._db, limit=room, pause=PAUSE, held=list(self._checks)):
            task = asyncio.create_task(self._check(row))
            self._checks[row.attempt_id] = task
            task.add_done_callback(self._ended)

    def _ended(self, ended: "asyncio.Task[None]") -> None:
        self._checks = {attempt_id: task for attempt_id, task in self._checks.items() if task is not ended}

    async def close(self) -> None:
        """Stop checking; another worker continues."""
        await cancel_and_wait(*self._checks.values())

    async def _check(self, row: LateAttempt) -> None:
        structlog.contextvars.bind_contextvars(media_id=str(row.id), attempt=row.attempt_number)
        attempt = open_attempt(row)
        if attempt is None:
            return
        if row.takeovers >= SUSPECT_FROM and row.looks > MOST_UNFINISHED_CHECKS:
            log.error("late_purchase_abandoned", checks=row.looks, takeovers=row.takeovers)
            await self._abandon(attempt)
            return
        try:
            async with asyncio.timeout(self._policy.limits.longest_copy + MORE_THAN_A_COPY):
                with tracing.span("follow up purchase", media_id=str(row.id), model=row.model):
                    await self._follow_up(row, attempt)
        except Exception as error:  # noqa: BLE001 - whatever it is, there is a next check
            log.warning("late_check_failed", error=repr(error))
        await late_attempts.finish_check(self._db, attempt.id)
        if row.ended_for > self._policy.late_result:
            await self._abandon(attempt)

    async def _abandon(self, attempt: OpenAttempt) -> None:
        self._forget(attempt.id)
        await late_attempts.abandon(self._db, attempt.id, purchased=attempt.reference is not None)

    async def _follow_up(self, row: LateAttempt, attempt: OpenAttempt) -> None:
        try:
            offer = self._registry.find(row.model)
        except UnknownModelError:
            return
        if attempt.reference is not None:
            await self._poll(row, offer, attempt, attempt.reference)
        elif attempt.age >= offer.provider.capabilities.submit_timeout.total_seconds() + MARGIN:
            # Before that the call may still be running; the worker that makes it records what it returns.
            await self._look_up(row, offer, attempt)

    async def _look_up(self, row: LateAttempt, offer: Offer, attempt: OpenAttempt) -> None:
        can = offer.provider.capabilities
        given = msgspec.json.decode(row.input)
        # Submitting again takes the files of the input, for which nobody waits any longer.
        again = can.idempotent_submit and not any(file_places(offer.card.input_schema, given))
        name = row.model.partition("/")[2]
        url = await self._callback_urls.of(offer.provider, attempt.id)
        submission = Submission(attempt.id, attempt.number, name, row.prompt, given, url)
        found = await find_purchase(self._db, offer, submission, attempt, may_submit=again)
        if found.there_is_none:
            await self._fail(row, attempt, NotReachedError(f"{offer.provider.name} never got the request"))
        elif found.purchase is None and found.answered and not (can.findable or again):
            # Its call has ended: an answer that is not there by now will never come. A callback may still name it.
            await late_attempts.abandon(self._db, attempt.id, purchased=False)
        elif found.purchase is None:
            log.info("late_purchase_not_found_yet", error=found.reason)

    async def _poll(self, row: LateAttempt, offer: Offer, attempt: OpenAttempt, reference: Reference) -> None:
        if row.stop:
            answer = await adapter_calls.cancel(offer.provider, reference)
            log.info("stop_answered", answer=answer)
            if answer is CancelAnswer.CANCELED:
                await self._end(row, AttemptOutcome(attempt.id, AttemptStatus.CANCELED, "YES"))
                return
            if answer is not None:
                await late_attempts.record_stop_sent(self._db, attempt.id)
        outcome = await adapter_calls.poll(offer.provider, reference)
        if isinstance(outcome, Succeeded):
            await self._store(row, offer, attempt, outcome)
        elif isinstance(outcome, Failed | Canceled):
            await self._end_without_result(row, attempt, outcome)
            if isinstance(outcome, Canceled):
                await adapter_calls.settled(offer.provider, reference)
        else:
            await self._note_unreadable(row, offer, attempt, outcome)

    async def _end_without_result(self, row: LateAttempt, attempt: OpenAttempt, outcome: Failed | Canceled) -> None:
        if isinstance(outcome, Failed):
            await self._fail(row, attempt, outcome.error)
        else:
            cost = attempt_cost(None, outcome)
            await self._end(row, AttemptOutcome(attempt.id, AttemptStatus.CANCELED, "YES", cost=cost))

    async def _store(self, row: LateAttempt, offer: Offer, attempt: OpenAttempt, succeeded: Succeeded) -> None:
        cost = attempt_cost(offer.card, succeeded)
        if row.stored:
            # Another purchase for the same media was quicker; that this one was paid is worth recording.
            await self._end(row, AttemptOutcome(attempt.id, AttemptStatus.SUCCEEDED, "YES", cost=cost))
            return
        copied = await self._copy(row, offer, attempt, succeeded)
        if copied is None:
            return
        told = list(copied.notices)
        if succeeded.left_out:
            told.append(outputs_left_out(len(succeeded.outputs), succeeded.left_out))
        warnings = stored(told) if told else None
        if copied.notices:
            await self._answers.keep(attempt.id, succeeded.answer)
        if await late_attempts.store(self._db, LateResult(attempt.id, row.id, copied.files, cost, warnings)):
            log.info("late_result_stored", files=len(copied.files))
            recording.attempt_ended(row.model, AttemptStatus.SUCCEEDED, cost=cost.dollars)
            recording.files_stored(row.model, copied.files)
            await counters.add(self._db, counters.PersistedCounter.LATE_STORED, 1)
            if attempt.reference is not None and not copied.notices:
                await adapter_calls.settled(offer.provider, attempt.reference)

    async def _copy(
        self, row: LateAttempt, offer: Offer, attempt: OpenAttempt, succeeded: Succeeded
    ) -> CopiedOutputs | None:
        """The outputs; None: not now, or never, and that is recorded."""
        keys = ObjectKeys(row.id, row.created_at, attempt.number)

        def from_files() -> bool:
            return any(file_places(offer.card.input_schema, msgspec.json.decode(row.input)))

        request = CopyRequest(None, from_files, copied=await earlier_copies(self._db, attempt.id))
        try:
            try:
                return await self._ingest.copy_all(offer, succeeded.outputs, keys, request)
            except CopyDelayedError as error:
                await record_copies(self._db, attempt.id, error.copied)
                request = replace(request, copied=error.copied, last=True)
                if error.suspect is None or not self._is_suspect_for_long(attempt.id):
                    return None
            return await self._ingest.copy_all(offer, succeeded.outputs, keys, request)
        except CopyDelayedError:
            return None
        except ProviderError as error:
            error.answer = error.answer or succeeded.answer
            await self._fail(row, attempt, with_next_step(error))
            return None

    async def _note_unreadable(self, row: LateAttempt, offer: Offer, attempt: OpenAttempt, outcome: Running) -> None:
        """Count polls in a row whose answers cannot be read; too many end the attempt."""
        if not outcome.unreadable:
            self._unreadable_polls.pop(attempt.id, None)
            return
        self._unreadable_polls[attempt.id] = self._unreadable_polls.get(attempt.id, 0) + 1
        if self._unreadable_polls[attempt.id] >= MOST_UNREADABLE:
            await self._fail(row, attempt, with_next_step(unreadable_answer(offer.provider.name, outcome)))

    def _forget(self, attempt_id: UUID) -> None:
        self._suspect_since.pop(attempt_id, None)
        self._unreadable_polls.pop(attempt_id, None)

    def _is_suspect_for_long(self, attempt_id: UUID) -> bool:
        """Whether its output has been fetched damaged for as long as that may last; counted anew by each process."""
        since = self._suspect_since.setdefault(attempt_id, clock.seconds())
        return clock.seconds() - since >= self._policy.limits.fetched_again_for.total_seconds()

    async def _fail(self, row: LateAttempt, attempt: OpenAttempt, error: ProviderError) -> None:
        if error.sent is Sent.YES:
            await self._answers.keep(attempt.id, error.answer)
        outcome = AttemptOutcome(attempt.id, AttemptStatus.FAILED, error.sent, as_json(error))
        await self._end(row, outcome, code=error.code)

    async def _end(self, row: LateAttempt, outcome: AttemptOutcome, *, code: str = "") -> None:
        self._forget(outcome.attempt_id)
        await late_attempts.close(self._db, outcome)
        recording.attempt_ended(row.model, outcome.status, code=code, cost=outcome.cost.dollars)
