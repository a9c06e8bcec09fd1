"""From a claimed media to its files.

Crosses database, provider and store, in this order:

0. files of the input are staged at the provider: `inputs/staging.py`. Nothing is submitted before all of them are.
1. intent: the attempt is committed. A crash from here on leaves an attempt without an external id: the next worker asks
   the provider for it; if the provider cannot say, the media's `on_unknown` decides.
2. submit: the one call that spends money, made once, never cut off by a shutdown.
3. purchase: external id and reference are committed. A crash from here on costs time only: the next worker continues
   polling.
4. poll, until the provider has finished, or has stopped because the owner requested it.
5. copy: each output into the store. A crash leaves objects that the next worker writes again, under the same keys.
6. completion: files, COMPLETED and the attempt's end are committed together.

Steps 1 to 3 are `submission.py`. Every write but the purchase names the claim's fencing token: after a lost lease it
changes nothing. A purchase whose media ends before it is followed up by `late_results.py`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Final

import structlog

from app.core import clock
from app.core.database.pool import DatabasePool
from app.jobs import queries
from app.jobs.billing import attempt_cost, reported_cost
from app.jobs.execution.failures import MOST_UNREADABLE, FailureHandler, unreadable_answer
from app.jobs.execution.job import Job, OpenAttempt
from app.jobs.execution.progress import ProgressReporter
from app.jobs.execution.submission import Submitter
from app.jobs.inputs.references import file_places
from app.jobs.inputs.staging import InputsDelayedError
from app.jobs.job_errors import with_next_step
from app.jobs.metrics import recording
from app.jobs.notices import WAITS_FOR_OTHERS, DelayCode, delay, outputs_left_out, stored
from app.jobs.outputs.earlier_copies import earlier_copies, record_copies
from app.jobs.outputs.ingest import CopiedOutputs, CopyDelayedError, CopyRequest, ObjectKeys, OutputIngest
from app.jobs.policies import JobPolicy
from app.jobs.states import AttemptStatus, MoneySpent
from app.jobs.transitions.attempt import AlreadyPurchasedError, Delay, report_delays
from app.jobs.transitions.cancellation import CancelOutcome, cancel, refuse_cancel
from app.jobs.transitions.completion import Completion, complete
from app.media_generator import adapter_calls
from app.media_generator.errors import (
    GenerationFailedError,
    ModelGoneError,
    OutputError,
    ProviderError,
    Sent,
    SilentError,
)
from app.media_generator.media_generator_model import (
    CancelAnswer,
    Canceled,
    Failed,
    MediaGeneratorModel,
    Outcome,
    Reference,
    Running,
    Succeeded,
)
from app.media_generator.registry import Offer, Registry, UnknownModelError

log = structlog.get_logger(__name__)

MOST_DEFECTS: Final = 5
"""Polls in a row that an adapter may fail at for no reason that it gives."""
SHORTEST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 10.0
"""Seconds between two polls when the provider gives no hint; they double from the first to the second."""
CALLBACK_WAITS: Final = (8.0, 30.0)
"""The same where the provider calls back: polls show progress, and make up for lost callbacks. The first poll comes
after the first of them."""


class JobMustWaitError(Exception):
    """The job cannot continue now: it is returned to the queue, its attempt stays open."""

    def __init__(self, reason: str, delay: timedelta) -> None:
        super().__init__(reason)
        self.reason = reason
        self.delay = delay


class _StoppedError(Exception):
    """The provider stopped because it was requested to."""

    def __init__(self, cost: Decimal | None = None) -> None:
        self.cost = cost


class JobExecutor:
    """Executes jobs; one object for all jobs of a process."""

    def __init__(
        self,
        db: DatabasePool,
        registry: Registry,
        policy: JobPolicy,
        submitter: Submitter,
        ingest: OutputIngest,
        failures: FailureHandler,
    ) -> None:
        self._db = db
        self._registry = registry
        self._policy = policy
        self._submitter = submitter
        self._ingest = ingest
        self._failures = failures

    async def run(self, job: Job) -> None:
        """Bring one job to a final state, or to its next attempt.

        Raises:
            JobMustWaitError: It cannot continue now; another worker may continue it later.
            LeaseLostError: The lease is lost.
        """
        offer = await self._offer(job)
        if offer is None or (job.attempt is None and await self._ends_without_attempt(job)):
            return
        try:
            attempt = await self._submitter.submit(job, offer)
        except InputsDelayedError as error:
            log.info("inputs_delayed", error=str(error))
            pause = max(self._policy.retry.backoff(job.claims), error.wait or timedelta(0))
            raise JobMustWaitError(DelayCode.INPUTS_DELAYED, pause) from error
        except AlreadyPurchasedError as error:
            raise JobMustWaitError("already_purchased", timedelta(0)) from error
        if attempt is None or attempt.reference is None:
            return
        structlog.contextvars.bind_contextvars(attempt=attempt.number)
        await self._finish(job, offer, attempt, attempt.reference)

    async def _offer(self, job: Job) -> Offer | None:
        """The model; None: no worker has it, and that is recorded."""
        try:
            return self._registry.find(job.model)
        except UnknownModelError:
            # During a rolling update another worker may have it; a job that may be paid waits for one that does.
            pause = self._policy.retry.backoff(job.claims)
            if job.attempt is not None or job.claims < self._policy.retry.max_tries:
                raise JobMustWaitError(DelayCode.MODEL_MISSING, pause) from None
            error = ModelGoneError(f"this worker has no model {job.model!r}; is its plug-in installed?")
            await self._failures.handle(job, None, error)
            return None

    async def _ends_without_attempt(self, job: Job) -> bool:
        """Whether it has ended before anything is submitted for it."""
        if job.terms.stored:
            await complete(self._db, Completion(job.lease, None, ()))
            recording.media_completed(job.model, job.created_at)
            log.info("media_completed_with_late_result")
            return True
        if job.cancel_requested.is_set():
            await cancel(self._db, CancelOutcome(job.lease, None, None))
            log.info("media_canceled")
            return True
        return False

    async def _finish(self, job: Job, offer: Offer, attempt: OpenAttempt, reference: Reference) -> None:
        """From a purchase to its end."""
        provider = offer.provider
        try:
            succeeded = await self._wait_for_result(job, provider, attempt, reference)
            is_whole = await self._store(job, offer, attempt, succeeded)
        except _StoppedError as stopped:
            await self._record_stopped(job, provider, attempt, stopped.cost)
            is_whole = True
        except ProviderError as error:
            is_kept = error.sent is not Sent.YES or await self._failures.keep_answer(attempt.id, error.answer)
            if not is_kept and attempt.age < self._policy.silence.total_seconds():
                # What was paid for is the answer now; the provider says the same when it is polled again.
                raise JobMustWaitError(DelayCode.COPY_DELAYED, self._policy.retry.backoff(job.claims)) from error
            await self._failures.handle(job, attempt, with_next_step(error))
            return
        # What the adapter keeps of a result that was not fetched whole stays: it was paid for.
        if is_whole:
            await adapter_calls.settled(provider, reference)

    async def _may_copy_again(self, job: Job, attempt: OpenAttempt, delayed: CopyDelayedError) -> bool:
        if attempt.age > self._policy.silence.total_seconds():
            return False
        if delayed.suspect is None:
            return True
        suspect_for = await queries.returned_for(self._db, job.lease.media_id, DelayCode.OUTPUT_SUSPECT)
        return suspect_for is None or suspect_for < self._policy.limits.fetched_again_for

    async def _store(self, job: Job, offer: Offer, attempt: OpenAttempt, succeeded: Succeeded) -> bool:
        """Copy the outputs and complete the media; False: some of them could not be had."""
        try:
            copied = await self._copy(job, offer, attempt, succeeded)
        except ProviderError as error:
            error.answer = error.answer or succeeded.answer
            raise
        told = list(copied.notices)
        if succeeded.left_out:
            told.append(outputs_left_out(len(succeeded.outputs), succeeded.left_out))
        if copied.notices:
            await self._failures.keep_answer(attempt.id, succeeded.answer)
        cost = attempt_cost(offer.card, succeeded)
        warnings = stored(told) if told else None
        await complete(self._db, Completion(job.lease, attempt.id, copied.files, cost, warnings))
        recording.attempt_ended(job.model, AttemptStatus.SUCCEEDED, cost=cost.dollars)
        recording.files_stored(job.model, copied.files)
        recording.media_completed(job.model, job.created_at)
        log.info("media_completed", files=len(copied.files), bytes=sum(file.bytes for file in copied.files))
        return not copied.notices

    async def _copy(self, job: Job, offer: Offer, attempt: OpenAttempt, succeeded: Succeeded) -> CopiedOutputs:
        keys = ObjectKeys(job.lease.media_id, job.created_at, attempt.number)

        def report_wait() -> Awaitable[None]:
            return report_delays(self._db, Delay(job.lease, delay(DelayCode.COPY_DELAYED, WAITS_FOR_OTHERS)))

        def from_files() -> bool:
            return any(file_places(offer.card.input_schema, job.input))

        copied = await earlier_copies(self._db, attempt.id) if job.claims > 1 else {}
        request = CopyRequest(job.owner_id, from_files, report_wait, copied)
        try:
            return await self._ingest.copy_all(offer, succeeded.outputs, keys, request)
        except CopyDelayedError as error:
            await record_copies(self._db, attempt.id, error.copied)
            request = replace(request, copied=error.copied, last=True)
            if await self._may_copy_again(job, attempt, error):
                # The claims so far count as attempts: nothing is submitted again.
                reason = DelayCode.COPY_DELAYED if error.suspect is None else DelayCode.OUTPUT_SUSPECT
                raise JobMustWaitError(reason, self._policy.retry.backoff(job.claims)) from error
        try:
            return await self._ingest.copy_all(offer, succeeded.outputs, keys, request)
        except CopyDelayedError as error:
            raise OutputError(f"the result of {offer.provider.name} could not be stored in time") from error

    async def _wait_for_result(
        self, job: Job, provider: MediaGeneratorModel, attempt: OpenAttempt, reference: Reference
    ) -> Succeeded:
        """Poll until the provider has finished; between polls nothing is held but this coroutine."""
        stop_sent, defects, unreadable, refused_since = False, 0, 0, None
        tolerated = self._policy.limits.fetched_again_for.total_seconds()
        calls_back = self._policy.callback_base_of(provider) is not None
        wait, longest = CALLBACK_WAITS if calls_back else (SHORTEST_WAIT, LONGEST_WAIT)
        progress = ProgressReporter(self._db, job.lease)
        if calls_back and attempt.age < wait and not job.cancel_requested.is_set():
            await _pause(job, wait)
        while True:
            job.poll_now.clear()
            if job.cancel_requested.is_set() and not stop_sent:
                stop_sent = await self._send_stop(job, provider, attempt, reference)
            outcome, defects = await _poll(provider, reference, defects)
            if not isinstance(outcome, Running):
                progress.report_end(outcome)
                return _result(outcome, provider)
            unreadable = unreadable + 1 if outcome.unreadable else 0
            if unreadable >= MOST_UNREADABLE:
                raise unreadable_answer(provider.name, outcome)
            refused_since = (refused_since or clock.seconds()) if outcome.refused else None
            if refused_since is not None and clock.seconds() - refused_since >= tolerated:
                raise _with_answer(
                    OutputError(f"{provider.name} does not say what became of it: {outcome.not_reached}"), outcome
                )
            left = self._policy.silence.total_seconds() - attempt.age
            if left <= 0:
                raise _with_answer(
                    SilentError(f"{provider.name} did not finish within {self._policy.silence}"), outcome
                )
            await progress.report(outcome)
            pause = outcome.wait.total_seconds() if outcome.wait is not None else wait
            await _pause(job, min(max(pause, SHORTEST_WAIT), max(left, SHORTEST_WAIT)))
            wait = min(wait * 2, longest)

    async def _send_stop(
        self, job: Job, provider: MediaGeneratorModel, attempt: OpenAttempt, reference: Reference
    ) -> bool:
        """Ask the provider to stop; False: it was not reached, ask again."""
        answer = await adapter_calls.cancel(provider, reference)
        log.info("cancel_answered", answer=answer)
        if answer is CancelAnswer.CANCELED:
            raise _StoppedError
        if answer is CancelAnswer.TOO_LATE:
            # Too late also where a worker before this one has stopped it: the purchase says which.
            outcome, _ = await _poll(provider, reference, 0)
            if isinstance(outcome, Canceled):
                raise _StoppedError(outcome.cost)
            if isinstance(outcome, Running) and outcome.not_reached is not None:
                return False
            await refuse_cancel(self._db, CancelOutcome(job.lease, attempt.id, MoneySpent.YES))
        return answer is not None

    async def _record_stopped(
        self, job: Job, provider: MediaGeneratorModel, attempt: OpenAttempt, cost: Decimal | None
    ) -> None:
        if not job.cancel_requested.is_set() and attempt.told_to_stop:
            # We had stopped it after its deadline, and then its owner requested a retry.
            await self._failures.restart(job, attempt, cost)
            return
        if not job.cancel_requested.is_set():
            error = GenerationFailedError(f"{provider.name} reports that it was canceled, and not by us")
            await self._failures.handle(job, attempt, error)
            return
        spent = MoneySpent.YES
        if cost is not None:
            spent = MoneySpent.YES if cost > 0 else MoneySpent.NO
        elif provider.capabilities.cancel_stops_billing:
            spent = MoneySpent.MAYBE
        await cancel(self._db, CancelOutcome(job.lease, attempt.id, spent, reported_cost(cost)))
        recording.attempt_ended(job.model, AttemptStatus.CANCELED, cost=cost)
        log.info("media_canceled", money_spent=spent)


def _with_answer(error: ProviderError, outcome: Running) -> ProviderError:
    error.answer = outcome.answer
    return error


def _result(outcome: Succeeded | Failed | Canceled, provider: MediaGeneratorModel) -> Succeeded:
    if isinstance(outcome, Failed):
        raise outcome.error
    if isinstance(outcome, Canceled):
        log.info("provider_stopped", provider=provider.name)
        raise _StoppedError(outcome.cost)
    return outcome


async def _poll(provider: MediaGeneratorModel, reference: Reference, defects: int) -> tuple[Outcome, int]:
    """The outcome, and how many defects there were in a row."""
    try:
        return await adapter_calls.poll(provider, reference), 0
    except adapter_calls.AdapterBugError:
        if defects + 1 >= MOST_DEFECTS:
            raise
        return Running(), defects + 1


async def _pause(job: Job, seconds: float) -> None:
    """Until there is a reason to poll, that long at most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await job.poll_now.wait()
