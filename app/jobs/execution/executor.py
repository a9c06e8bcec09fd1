"""From a claimed media to its files.

Crosses database, provider and store, in this order:

0. files of the input are handed over: `input_files.py`. Nothing is bought before all of them are.
1. intent: the attempt is committed. A crash from here on leaves an attempt without an external id:
   the next worker asks the provider for it; if nobody can say, the media's `on_unknown` decides.
2. submit: the one call that spends money, made once, never cut off by a shutdown.
3. purchase: external id and reference are committed. A crash from here on costs time only: the next
   worker goes on polling.
4. poll, until the provider is done, or has stopped because the owner asked for it.
5. copy: each output into the store. A crash leaves objects that the next worker writes again, same keys.
6. completion: files, COMPLETED and the attempt's end are committed together.

Steps 1 to 3 are `purchasing.py`. Every write but the purchase names the claim's fencing number: after a
lost lease it changes nothing. What becomes of a purchase whose media ends before it is `aftercare.py`.
"""

import asyncio
import contextlib
from datetime import timedelta
from decimal import Decimal
from typing import Final

import structlog

from app.jobs.billing import bill, reported
from app.jobs.execution.failures import FailureHandler
from app.jobs.execution.job import Job, OpenAttempt
from app.jobs.execution.progress import ProgressReporter
from app.jobs.execution.submission import Submitter
from app.jobs.inputs.staging import InputsDelayedError
from app.jobs.metrics import recording
from app.jobs.outputs.ingest import CopyDelayedError, ObjectKeys, OutputIngest
from app.jobs.states import AttemptStatus, MoneySpent
from app.jobs.transitions.commands import CancelOutcome, Completion
from app.jobs.transitions.group_commit import BoughtAlreadyError, Writes
from app.media_generator import adapter_calls
from app.media_generator.errors import (
    GenerationFailedError,
    ModelGoneError,
    OutputError,
    ProviderError,
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
"""Polls in a row that an adapter may fail at for no reason that it tells."""
SHORTEST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 10.0
"""Seconds between two polls when the provider gives no hint; they double from the first to the second."""
SAFETY_NET: Final = (8.0, 30.0)
"""The same where the provider calls back: polls show progress, and find what lost callbacks do not tell. What has just
been bought is not asked about before the first of them has passed."""


class ReleaseJobError(Exception):
    """The job cannot go on now: give it back to the queue, its attempt stays open."""

    def __init__(self, reason: str, delay: timedelta) -> None:
        super().__init__(reason)
        self.reason = reason
        self.delay = delay


class _StoppedError(Exception):
    """The provider stopped because it was asked to."""

    def __init__(self, cost: Decimal | None = None) -> None:
        self.cost = cost


class JobExecutor:
    """Generates media; one object for all jobs of a process."""

    def __init__(
        self,
        writes: Writes,
        registry: Registry,
        copier: OutputIngest,
        purchasing: Submitter,
        settlement: FailureHandler,
    ) -> None:
        self._writes = writes
        self._registry = registry
        self._copier = copier
        self._settlement = settlement
        self._rules = settlement.rules
        self.purchasing = purchasing
        self.rerouter = settlement.rerouter

    async def run(self, job: Job) -> None:
        """Bring one job to a final state, or to its next try.

        Raises:
            ReleaseJobError: It has to wait; somebody else may go on with it.
            LeaseLostError: It is not this worker's any more.
        """
        offer = await self._offer(job)
        if offer is None or (job.attempt is None and await self._need_not_buy(job)):
            return
        try:
            attempt = await self.purchasing.obtain(job, offer)
        except InputsDelayedError as error:
            log.info("inputs_delayed", error=str(error))
            pause = max(self._rules.retry.pause(job.held.fence), error.wait or timedelta(0))
            raise ReleaseJobError("inputs_delayed", pause) from error
        except BoughtAlreadyError as error:
            raise ReleaseJobError("bought_already", timedelta(0)) from error
        if attempt is None or attempt.reference is None:
            return
        structlog.contextvars.bind_contextvars(attempt=attempt.number)
        await self._finish(job, offer, attempt, attempt.reference)

    async def expire(self, job: Job) -> None:
        """End a job whose deadline has passed; what is at the provider is looked after by `aftercare.py` from here on.

        Raises:
            LeaseLostError: It is not this worker's any more.
        """
        await self._writes.expire(job.held)

    async def _offer(self, job: Job) -> Offer | None:
        """The model; None: nobody has it, and that is written down."""
        try:
            return self._registry.find(job.model)
        except UnknownModelError:
            # While new code is rolled out another worker may have it; what may be paid waits for one that does.
            if job.attempt is not None or job.held.fence < self._rules.retry.max_tries:
                raise ReleaseJobError("model_missing_here", self._rules.retry.pause(job.held.fence)) from None
            error = ModelGoneError(f"this worker has no model {job.model!r}; is its plug-in installed?")
            await self._settlement.settle(job, None, error)
            return None

    async def _finish(self, job: Job, offer: Offer, attempt: OpenAttempt, reference: Reference) -> None:
        """From a purchase to its end."""
        provider, types = offer.provider, offer.card.output_types
        try:
            succeeded = await self._outcome(job, provider, attempt, reference)
            folder = ObjectKeys(job.held.media_id, job.created_at, attempt.number)
            files = await self._copier.copy_all(provider, succeeded.outputs, folder, types)
        except _StoppedError as stopped:
            await self._stopped(job, provider, attempt, stopped.cost)
            await adapter_calls.settled(provider, reference)
            return
        except ProviderError as error:
            await self._settlement.settle(job, attempt, error)
            if isinstance(error, GenerationFailedError):
                # Of a result that could not be had whole the raw answer stays: it was paid for.
                await adapter_calls.settled(provider, reference)
            return
        except CopyDelayedError as error:
            if attempt.age > self._rules.silence.total_seconds():
                gone = OutputError(f"the result of {provider.name} could not be had in time")
                await self._settlement.settle(job, attempt, gone)
                return
            # The claims so far stand for the tries so far: nothing is bought by another one.
            raise ReleaseJobError("copy_delayed", self._rules.retry.pause(job.held.fence)) from error
        billed = bill(offer.card, succeeded)
        await self._writes.complete(Completion(job.held, attempt.id, files, billed))
        recording.attempt_ended(job.model, AttemptStatus.SUCCEEDED, cost=billed.dollars)
        recording.files_stored(job.model, files)
        recording.media_completed(job.model, job.created_at)
        log.info("media_completed", files=len(files), bytes=sum(file.bytes for file in files))
        await adapter_calls.settled(provider, reference)

    async def _need_not_buy(self, job: Job) -> bool:
        """Whether it is over before anything is bought for it."""
        if job.terms.stored:
            await self._writes.complete(Completion(job.held, None, ()))
            recording.media_completed(job.model, job.created_at)
            log.info("media_completed_with_late_result")
            return True
        if job.cancel_asked.is_set():
            await self._writes.cancel(CancelOutcome(job.held, None, None))
            log.info("media_canceled")
            return True
        return False

    async def _outcome(
        self, job: Job, provider: MediaGeneratorModel, attempt: OpenAttempt, reference: Reference
    ) -> Succeeded:
        """Wait until the provider is done; between polls nothing is held but this coroutine."""
        asked, defects = False, 0
        called_back = self._rules.callback_base_of(provider) is not None
        wait, longest = SAFETY_NET if called_back else (SHORTEST_WAIT, LONGEST_WAIT)
        showing = ProgressReporter(self._writes, job.held)
        if called_back and attempt.age < wait and not job.cancel_asked.is_set():
            await _pause(job, wait)
        while True:
            job.nudged.clear()
            if job.cancel_asked.is_set() and not asked:
                asked = await self._ask_to_stop(job, provider, attempt, reference)
            outcome, defects = await _poll(provider, reference, defects)
            if not isinstance(outcome, Running):
                showing.last_words(outcome)
                return _result(outcome, provider)
            left = self._rules.silence.total_seconds() - attempt.age
            if left <= 0:
                raise SilentError(f"{provider.name} did not finish within {self._rules.silence}")
            await showing.show(outcome)
            pause = outcome.wait.total_seconds() if outcome.wait is not None else wait
            await _pause(job, min(max(pause, SHORTEST_WAIT), max(left, SHORTEST_WAIT)))
            wait = min(wait * 2, longest)

    async def _ask_to_stop(
        self, job: Job, provider: MediaGeneratorModel, attempt: OpenAttempt, reference: Reference
    ) -> bool:
        """Tell the provider that the owner wants it stopped; False: it could not be told, ask again."""
        answer = await adapter_calls.cancel(provider, reference)
        log.info("cancel_answered", answer=answer)
        if answer is CancelAnswer.CANCELED:
            raise _StoppedError
        if answer is CancelAnswer.TOO_LATE:
            await self._writes.refuse_cancel(CancelOutcome(job.held, attempt.id, MoneySpent.YES))
        return answer is not None

    async def _stopped(
        self, job: Job, provider: MediaGeneratorModel, attempt: OpenAttempt, cost: Decimal | None
    ) -> None:
        if not job.cancel_asked.is_set() and attempt.told_to_stop:
            # We had stopped it after its deadline, and then its owner asked for another try.
            await self._settlement.begin_anew(job, attempt, cost)
            return
        if not job.cancel_asked.is_set():
            error = GenerationFailedError(f"{provider.name} says that it was canceled, and not by us")
            await self._settlement.settle(job, attempt, error)
            return
        spent = MoneySpent.YES
        if cost is not None:
            spent = MoneySpent.YES if cost > 0 else MoneySpent.NO
        elif provider.capabilities.cancel_stops_billing:
            spent = MoneySpent.MAYBE
        await self._writes.cancel(CancelOutcome(job.held, attempt.id, spent, reported(cost)))
        recording.attempt_ended(job.model, AttemptStatus.CANCELED, cost=cost)
        log.info("media_canceled", money_spent=spent)


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
    except adapter_calls.AdapterDefectError:
        if defects + 1 >= MOST_DEFECTS:
            raise
        return Running(), defects + 1


async def _pause(job: Job, seconds: float) -> None:
    """Until it is nudged, that long at most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await job.nudged.wait()
