"""From a claimed media to its files.

Crosses database, provider and store, in this order:

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
import time
from datetime import timedelta
from decimal import Decimal
from typing import Final

import structlog

from app.media import calls
from app.media.commands import CancelReport, Completion, Progress
from app.media.copying import Copier, CopyDelayedError
from app.media.jobs import Job, OpenAttempt
from app.media.purchasing import Purchasing
from app.media.settlement import Settlement
from app.media.states import MoneySpent
from app.media.writes import Writes
from app.media_generator.errors import GenerationFailedError, ModelGoneError, ProviderError, SilentError
from app.media_generator.media_generator_model import (
    CancelAnswer,
    Canceled,
    Failed,
    MediaGeneratorModel,
    Reference,
    Running,
    Succeeded,
)
from app.media_generator.registry import Registry, UnknownModelError

log = structlog.get_logger(__name__)

PROGRESS_SECONDS: Final = 0.5
"""The shortest time between two progress writes of one job."""
MISSING_MODEL_PAUSE: Final = timedelta(seconds=30)
"""Before a job whose model this worker lacks is offered to others again."""
SHORTEST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 10.0
"""Seconds between two polls when the provider gives no hint; they double from the first to the second."""


class HandBackError(Exception):
    """The job cannot go on now: give it back to the queue, its attempt stays open."""

    def __init__(self, reason: str, delay: timedelta) -> None:
        super().__init__(reason)
        self.reason = reason
        self.delay = delay


class _StoppedError(Exception):
    """The provider stopped because it was asked to."""

    def __init__(self, cost: Decimal | None = None) -> None:
        self.cost = cost


class Generation:
    """Generates media; one object for all jobs of a process."""

    def __init__(
        self, writes: Writes, registry: Registry, copier: Copier, purchasing: Purchasing, settlement: Settlement
    ) -> None:
        self._writes = writes
        self._registry = registry
        self._copier = copier
        self._settlement = settlement
        self._rules = settlement.rules
        self.purchasing = purchasing

    async def run(self, job: Job) -> None:
        """Bring one job to a final state, or to its next try.

        Raises:
            HandBackError: It has to wait; somebody else may go on with it.
            LeaseLostError: It is not this worker's any more.
        """
        try:
            offer = self._registry.find(job.model)
        except UnknownModelError:
            if job.attempt is not None:
                # It may be paid: a worker that has the plug-in goes on with it.
                raise HandBackError("model_missing_here", MISSING_MODEL_PAUSE) from None
            error = ModelGoneError(f"this worker has no model {job.model!r}; is its plug-in installed?")
            await self._settlement.settle(job, None, error)
            return
        if job.attempt is None and await self._need_not_buy(job):
            return
        attempt = await self.purchasing.obtain(job, offer)
        if attempt is None or attempt.reference is None:
            return
        structlog.contextvars.bind_contextvars(attempt=attempt.number)
        try:
            succeeded = await self._outcome(job, offer.provider, attempt, attempt.reference)
            files = await self._copier.copy_all(offer.provider, succeeded.outputs, job.held.media_id, job.created_at)
        except _StoppedError as stopped:
            await self._stopped(job, offer.provider, attempt, stopped.cost)
            return
        except ProviderError as error:
            await self._settlement.settle(job, attempt, error)
            return
        except CopyDelayedError as error:
            # The claims so far stand for the tries so far: nothing is bought by another one.
            raise HandBackError("copy_delayed", self._rules.retry.pause(job.held.fence)) from error
        await self._writes.complete(Completion(job.held, attempt.id, files, succeeded.cost))
        log.info("media_completed", files=len(files), bytes=sum(file.bytes for file in files))

    async def _need_not_buy(self, job: Job) -> bool:
        """Whether it is over before anything is bought for it."""
        if job.terms.stored:
            await self._writes.complete(Completion(job.held, None, ()))
            log.info("media_completed_with_late_result")
            return True
        if job.cancel_asked.is_set():
            await self._writes.cancel(CancelReport(job.held, None, None))
            log.info("media_canceled")
            return True
        return False

    async def _outcome(
        self, job: Job, provider: MediaGeneratorModel, attempt: OpenAttempt, reference: Reference
    ) -> Succeeded:
        """Wait until the provider is done; between polls nothing is held but this coroutine."""
        wait, shown, told, asked = SHORTEST_WAIT, None, 0.0, False
        while True:
            if job.cancel_asked.is_set() and not asked:
                asked = await self._ask_to_stop(job, provider, attempt, reference)
            outcome = await calls.poll(provider, reference)
            if not isinstance(outcome, Running):
                return _result(outcome, provider)
            left = self._rules.silence.total_seconds() - attempt.age
            if left <= 0:
                raise SilentError(f"{provider.name} did not finish within {self._rules.silence}")
            if outcome.progress is not None and outcome.progress != shown and time.monotonic() > told:
                shown, told = outcome.progress, time.monotonic() + PROGRESS_SECONDS
                await self._writes.progress(Progress(job.held, min(max(shown, 0.0), 1.0)))
            pause = min(outcome.wait.total_seconds() if outcome.wait is not None else wait, left)
            await (asyncio.sleep(pause) if asked else _sleep_unless(job.cancel_asked, pause))
            wait = min(wait * 2, LONGEST_WAIT)

    async def _ask_to_stop(
        self, job: Job, provider: MediaGeneratorModel, attempt: OpenAttempt, reference: Reference
    ) -> bool:
        """Tell the provider that the owner wants it stopped; False: it could not be told, ask again."""
        answer = await calls.cancel(provider, reference)
        log.info("cancel_answered", answer=answer)
        if answer is CancelAnswer.CANCELED:
            raise _StoppedError
        if answer is CancelAnswer.TOO_LATE:
            await self._writes.refuse_cancel(CancelReport(job.held, attempt.id, MoneySpent.YES))
        return answer is not None

    async def _stopped(
        self, job: Job, provider: MediaGeneratorModel, attempt: OpenAttempt, cost: Decimal | None
    ) -> None:
        if not job.cancel_asked.is_set():
            error = GenerationFailedError(f"{provider.name} says that it was canceled, and not by us")
            await self._settlement.settle(job, attempt, error)
            return
        spent = MoneySpent.YES
        if cost is not None:
            spent = MoneySpent.YES if cost > 0 else MoneySpent.NO
        elif provider.capabilities.cancel_stops_billing:
            spent = MoneySpent.MAYBE
        await self._writes.cancel(CancelReport(job.held, attempt.id, spent, cost))
        log.info("media_canceled", money_spent=spent)


def _result(outcome: Succeeded | Failed | Canceled, provider: MediaGeneratorModel) -> Succeeded:
    if isinstance(outcome, Failed):
        raise outcome.error
    if isinstance(outcome, Canceled):
        log.info("provider_stopped", provider=provider.name)
        raise _StoppedError(outcome.cost)
    return outcome


async def _sleep_unless(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
