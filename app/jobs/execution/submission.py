"""The part of a job that spends money: intent, submit, purchase.

Once started it runs to its end: it is shielded from cancellation, and a stopping worker waits for it. So only a crash
leaves an intent open, and then it is looked up at the provider before anything else (`reconciliation.py`).
`submit` ends within the provider's `submit_timeout` of the intent, or is not called.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import structlog

from app.core import clock
from app.core.database.pool import RETRYABLE, DatabasePool
from app.core.ids import new_id
from app.core.telemetry import tracing
from app.jobs import queries
from app.jobs.callbacks.urls import CallbackUrls
from app.jobs.execution.failures import TRIPS_CIRCUIT, FailureHandler
from app.jobs.execution.job import Job, OpenAttempt, read_reference
from app.jobs.execution.reconciliation import Reconciler
from app.jobs.inputs.staging import InputsDelayedError, InputStaging
from app.jobs.notices import DelayCode, delay
from app.jobs.policies import JobPolicy
from app.jobs.scheduling import model_pauses, provider_circuits
from app.jobs.transitions.attempt import (
    AlreadyPurchasedError,
    Delay,
    Intent,
    Purchase,
    PurchaseRecord,
    intend,
    record_purchases,
    report_delays,
)
from app.jobs.transitions.base import Lease, LeaseLostError
from app.media_generator import adapter_calls
from app.media_generator.errors import AnswerLostError, ModelGoneError, ProviderError
from app.media_generator.media_generator_model import Submission
from app.media_generator.registry import Offer

log = structlog.get_logger(__name__)


class _UnansweredError(Exception):
    """`submit` was called, and its answer was lost."""

    def __init__(self, attempt: OpenAttempt, lost: AnswerLostError) -> None:
        self.attempt = attempt
        self.lost = lost


class Submitter:
    """Submits jobs to providers, each in a task of its own that no cancellation reaches."""

    def __init__(self, db: DatabasePool, policy: JobPolicy, inputs: InputStaging, failures: FailureHandler) -> None:
        self._db = db
        self._policy = policy
        self._inputs = inputs
        self._failures = failures
        self._reconciler = Reconciler(db, policy)
        self._callback_urls = CallbackUrls(db, policy)
        self._running: dict[Lease, asyncio.Task[OpenAttempt | None]] = {}

    @property
    def submitting(self) -> set[Lease]:
        """The jobs whose calls may be spending money now."""
        return set(self._running)

    async def finish(self) -> None:
        """Wait for every call that may be spending money."""
        while self._running:
            await asyncio.wait(self._running.values())

    async def submit(self, job: Job, offer: Offer) -> OpenAttempt | None:
        """An attempt with its purchase, ready to be polled; None: it failed, and that is recorded.

        Raises:
            LeaseLostError: The lease is lost.
            InputsDelayedError: The files of its input are unavailable now; nothing was started.
            AlreadyPurchasedError: It resumes an earlier attempt; nothing was started.
        """
        can = offer.provider.capabilities
        async with contextlib.AsyncExitStack() as stack:
            given: Mapping[str, Any] = job.input
            # Looking a lost purchase up by its id needs no files; submitting it again does.
            if job.attempt is None or (job.attempt.reference is None and can.idempotent_submit and not can.findable):
                try:
                    given = await stack.enter_async_context(self._inputs.staged(offer, job.owner_id, job.input))
                except ProviderError as error:
                    await self._fail_without_files(job, error)
                    return None
            if job.attempt is not None:
                return await self._resume(job, offer, job.attempt, given)
            if job.cancel_requested.is_set():
                raise InputsDelayedError("canceled meanwhile")
            try:
                return await self._shielded(job, offer, given)
            except _UnansweredError as error:
                return await self._look_up(job, offer, error.attempt, error.lost, given)

    async def _resume(
        self, job: Job, offer: Offer, attempt: OpenAttempt, given: Mapping[str, Any]
    ) -> OpenAttempt | None:
        """Continue an attempt that a worker before left open."""
        if attempt.reference is not None:
            return attempt
        lost = AnswerLostError("the worker stopped while it was asking the provider")
        return await self._look_up(job, offer, attempt, lost, given)

    async def _look_up(
        self, job: Job, offer: Offer, attempt: OpenAttempt, lost: AnswerLostError, given: Mapping[str, Any]
    ) -> OpenAttempt | None:
        async def submission() -> Submission:
            return await self._submission(job, offer, attempt, given)

        message = f"the answer of {offer.provider.name} was lost; it is being asked whether it has the request"
        await report_delays(self._db, Delay(job.lease, delay(DelayCode.OUTCOME_LOOKUP, message)))
        try:
            found = await self._reconciler.look_up(
                offer, attempt, lost, submission, by_other_worker=job.attempt is not None
            )
        except ProviderError as error:
            await self._failures.handle(job, attempt, error)
            return None
        await report_delays(self._db, Delay(job.lease, None))
        return found

    async def _fail_without_files(self, job: Job, error: ProviderError) -> None:
        """The files of its input are unavailable, so nothing was submitted; the claims so far count as attempts."""
        if error.retryable and job.claims < self._policy.retry.max_tries:
            raise InputsDelayedError(error.message, error.retry_after) from error
        if job.attempt is None:
            await self._refused(job, None, error)
        else:
            lost = AnswerLostError(f"it cannot be submitted again: {error.message}")
            await self._failures.handle(job, job.attempt, lost)

    async def _shielded(self, job: Job, offer: Offer, given: Mapping[str, Any]) -> OpenAttempt | None:
        task = asyncio.create_task(self._submit(job, offer, given))
        self._running[job.lease] = task
        task.add_done_callback(lambda task: self._ended(job.lease, task))
        return await asyncio.shield(task)

    def _ended(self, lease: Lease, task: "asyncio.Task[OpenAttempt | None]") -> None:
        self._running.pop(lease, None)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, LeaseLostError | AlreadyPurchasedError | _UnansweredError):
            # Its caller may be gone, and then nobody else would log it.
            log.error("submission_error", error=repr(error))

    async def _submit(self, job: Job, offer: Offer, given: Mapping[str, Any]) -> OpenAttempt | None:
        attempt = await self._intend(job, offer)
        submission = await self._submission(job, offer, attempt, given)
        left = offer.provider.capabilities.submit_timeout - timedelta(seconds=attempt.age)
        try:
            reference = await adapter_calls.submit(offer.provider, submission, time_limit=left)
        except AnswerLostError as error:
            await self._failures.keep_answer(attempt.id, error.answer)
            raise _UnansweredError(attempt, error) from error
        except ProviderError as error:
            await self._refused(job, attempt, error)
            return None
        recorded = await record_purchases(self._db, Purchase.of(attempt.id, reference))
        if recorded is PurchaseRecord.TAKEN:
            named = f"{offer.provider.name} answered with {reference.external_id}, which belongs to another attempt"
            raise _UnansweredError(attempt, AnswerLostError(named))
        if recorded is PurchaseRecord.SETTLED:
            # Such as by a callback that was quicker.
            reference = read_reference(await queries.purchase_of(self._db, attempt.id)) or reference
        log.info("attempt_submitted", external_id=reference.external_id)
        if job.terms.trial:
            with contextlib.suppress(*RETRYABLE):
                await provider_circuits.reset(self._db, job.provider)
        return replace(attempt, reference=reference)

    async def _refused(self, job: Job, attempt: OpenAttempt | None, error: ProviderError) -> None:
        first, unavailable = False, isinstance(error, (*TRIPS_CIRCUIT, ModelGoneError))
        with contextlib.suppress(*RETRYABLE):
            if isinstance(error, TRIPS_CIRCUIT):
                log.error("provider_unavailable", provider=job.provider, code=error.code, message=error.message)
                first = await provider_circuits.trip(self._db, job.provider, error, pause=self._policy.circuit_pause)
            elif isinstance(error, ModelGoneError):
                log.error("model_gone", model=job.model, message=error.message)
                first = await model_pauses.pause_gone(self._db, job.model, f"{job.model} is gone: {error.message}")
        # Only the job that discovered it fails; those after it wait until the provider is available again.
        await self._failures.handle(job, attempt, error, always_retry=unavailable and not first)

    async def _intend(self, job: Job, offer: Offer) -> OpenAttempt:
        attempt_id = new_id()
        intended_at = clock.seconds()
        intent = Intent(
            job.lease,
            attempt_id,
            offer.full_name,
            offer.card.version,
            adapter_calls.likeness(offer, job.prompt, job.input),
            adapter_calls.estimate(offer, job.input),
            offer.card.price.currency if offer.card.price is not None else "USD",
        )
        try:
            committed = await intend(self._db, intent)
        except asyncpg.UniqueViolationError as error:
            raise AlreadyPurchasedError from error
        structlog.contextvars.bind_contextvars(attempt=committed.number)
        tracing.set_attributes(attempt=committed.number)
        return OpenAttempt(attempt_id, committed.number, None, committed.created_at, intended_at)

    async def _submission(self, job: Job, offer: Offer, attempt: OpenAttempt, given: Mapping[str, Any]) -> Submission:
        url = await self._callback_urls.of(offer.provider, attempt.id)
        return replace(job.submission(attempt.id, attempt.number, url), input=given)
