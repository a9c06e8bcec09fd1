"""The part of a generation that spends money: intent, submit, purchase.

Once begun it runs to its end: it is shielded from cancellation, and a stopping worker waits for it. So only a
crash leaves an intent open, and then the provider is asked what became of it before anything else is done.

A worker that was cut off, or frozen, may be in the middle of `submit` while another has taken the media over.
So `submit` ends within the provider's `submit_timeout` of the intent, or is not begun; and until that time has
passed nobody is believed who says that there is no purchase.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

import msgspec
import structlog

from app.core import clock
from app.core.database.pool import DatabasePool
from app.core.database.text import storable
from app.core.ids import new_id
from app.core.telemetry import tracing
from app.jobs import queries
from app.jobs.callbacks.urls import CallbackUrls
from app.jobs.execution.failures import CLOSES_GATE, FailureHandler
from app.jobs.execution.job import Job, OpenAttempt, read_reference
from app.jobs.inputs.staging import InputsDelayedError, InputStaging
from app.jobs.policies import JobPolicy
from app.jobs.scheduling import model_pauses, provider_circuits
from app.jobs.transitions.commands import Intent, Lease, Purchase
from app.jobs.transitions.group_commit import TRY_LATER, BoughtAlreadyError, LeaseLostError, Writes
from app.media_generator import adapter_calls
from app.media_generator.errors import AnswerLostError, ModelGoneError, NotReachedError, ProviderError
from app.media_generator.media_generator_model import Reference, Submission
from app.media_generator.registry import Offer

log = structlog.get_logger(__name__)

MARGIN: Final = 1.0
"""Seconds beyond `submit_timeout` for what a machine under load does late."""
SHORTEST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
"""Seconds between two looks for a lost purchase."""


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt after `submit`: bought, unless its answer was lost."""

    attempt: OpenAttempt
    lost: AnswerLostError | None = None


class Submitter:
    """Buys generations, each in a task of its own that nobody's cancellation reaches."""

    def __init__(
        self, db: DatabasePool, writes: Writes, settlement: FailureHandler, rules: JobPolicy, inputs: InputStaging
    ) -> None:
        self._db = db
        self._writes = writes
        self._settlement = settlement
        self._rules = rules
        self._inputs = inputs
        self._addresses = CallbackUrls(db, rules)
        self.running: dict[Lease, asyncio.Task[Tried | None]] = {}
        """The calls that may be spending money now."""

    async def obtain(self, job: Job, offer: Offer) -> OpenAttempt | None:
        """A purchase that can be polled; None: the try failed, and that is written down.

        Raises:
            LeaseLostError: The media is not this worker's any more.
            InputsDelayedError: The files of its input cannot be had now; nothing was begun.
            BoughtAlreadyError: It goes on with an older try; nothing was begun.
        """
        can = offer.provider.capabilities
        async with contextlib.AsyncExitStack() as stack:
            given: Mapping[str, Any] = job.input
            # Who looks a lost purchase up by its id needs no files; who asks for it once more does.
            if job.attempt is None or (job.attempt.reference is None and can.idempotent_submit and not can.findable):
                try:
                    given = await stack.enter_async_context(self._inputs.staged(offer, job.owner_id, job.input))
                except ProviderError as error:
                    await self._without_files(job, error)
                    return None
            if job.attempt is not None:
                tried = Tried(job.attempt, AnswerLostError("the worker stopped while it was asking the provider"))
                return await self._known(job, offer, tried, given)
            if job.cancel_asked.is_set():
                raise InputsDelayedError("canceled meanwhile")
            tried_now = await self._shielded(job, offer, given)
            return None if tried_now is None else await self._known(job, offer, tried_now, given)

    async def _without_files(self, job: Job, error: ProviderError) -> None:
        """The files of its input cannot be had, so nothing was bought; the claims so far stand for the tries."""
        if error.retryable and job.held.fence < self._rules.retry.max_tries:
            raise InputsDelayedError(error.message, error.retry_after) from error
        if job.attempt is None:
            await self._refused(job, None, error)
        else:
            lost = AnswerLostError(f"it cannot be asked for once more: {error.message}")
            await self._settlement.settle(job, job.attempt, lost)

    async def _known(self, job: Job, offer: Offer, tried: Tried, given: Mapping[str, Any]) -> OpenAttempt | None:
        """The attempt with its purchase, looked for if its answer was lost."""
        if tried.attempt.reference is not None:
            return tried.attempt
        try:
            return await self._look_up(job, offer, tried, given)
        except ProviderError as error:
            await self._settlement.settle(job, tried.attempt, error)
            return None

    async def finish(self) -> None:
        """Wait for every call that is spending money."""
        while self.running:
            await asyncio.wait(self.running.values())

    async def _shielded(self, job: Job, offer: Offer, given: Mapping[str, Any]) -> Tried | None:
        task = asyncio.create_task(self._buy(job, offer, given))
        self.running[job.held] = task
        task.add_done_callback(lambda task: self._ended(job.held, task))
        return await asyncio.shield(task)

    def _ended(self, held: Lease, task: "asyncio.Task[Tried | None]") -> None:
        self.running.pop(held, None)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, LeaseLostError | BoughtAlreadyError):
            # Its caller may be gone; then nobody else would say so.
            log.error("purchase_broken", error=repr(error))

    async def _buy(self, job: Job, offer: Offer, given: Mapping[str, Any]) -> Tried | None:
        attempt = await self._intend(job, offer)
        submission = await self._submission(job, offer, attempt, given)
        left = offer.provider.capabilities.submit_timeout - timedelta(seconds=attempt.age)
        try:
            reference = await adapter_calls.submit(offer.provider, submission, patience=left)
        except AnswerLostError as error:
            return Tried(attempt, error)
        except ProviderError as error:
            await self._refused(job, attempt, error)
            return None
        bought = await self._record(attempt, reference)
        if job.terms.trial:
            with contextlib.suppress(*TRY_LATER):
                await provider_circuits.open_again(self._db, job.provider)
        return Tried(bought)

    async def _refused(self, job: Job, attempt: OpenAttempt | None, error: ProviderError) -> None:
        found_out, closes = False, isinstance(error, (*CLOSES_GATE, ModelGoneError))
        with contextlib.suppress(*TRY_LATER):
            if isinstance(error, CLOSES_GATE):
                log.error("provider_closed", provider=job.provider, code=error.code, message=error.message)
                found_out = await provider_circuits.close(self._db, job.provider, error, pause=self._rules.gate_pause)
            elif isinstance(error, ModelGoneError):
                log.error("model_gone", model=job.model, message=error.message)
                found_out = await model_pauses.gone(self._db, job.model, f"{job.model} is gone: {error.message}")
        # Who comes after the one that found out is not to blame, and waits until it is well again.
        await self._settlement.settle(job, attempt, error, spare=closes and not found_out)

    async def _intend(self, job: Job, offer: Offer) -> OpenAttempt:
        attempt_id = new_id()
        begun = clock.seconds()
        bought = msgspec.json.encode([job.prompt, job.input], order="deterministic")
        number = await self._writes.intend(
            Intent(
                job.held,
                attempt_id,
                offer.full_name,
                offer.card.version,
                hashlib.sha256(bought).hexdigest(),
                adapter_calls.estimate(offer, job.input),
                offer.card.price.currency if offer.card.price is not None else "USD",
            )
        )
        structlog.contextvars.bind_contextvars(attempt=number)
        tracing.note(attempt=number)
        return OpenAttempt(attempt_id, number, None, job.created_at, begun)

    async def _submission(self, job: Job, offer: Offer, attempt: OpenAttempt, given: Mapping[str, Any]) -> Submission:
        address = await self._addresses.of(offer.provider, attempt.id)
        return replace(job.submission(attempt.id, attempt.number, address), input=given)

    async def _record(self, attempt: OpenAttempt, reference: Reference) -> OpenAttempt:
        await record_purchase(self._writes, attempt, reference)
        return replace(attempt, reference=reference)

    async def _look_up(self, job: Job, offer: Offer, tried: Tried, given: Mapping[str, Any]) -> OpenAttempt:
        """The purchase whose answer was lost.

        Raises:
            AnswerLostError: Nobody can say; it is not bought again.
            NotReachedError: The provider says that there is none.
        """
        attempt, lost = tried.attempt, tried.lost or AnswerLostError("the answer was lost")
        log.warning("answer_lost", error=lost.message)
        can = offer.provider.capabilities
        settled = can.submit_timeout.total_seconds() + MARGIN
        # A call of our own has ended; that of a worker before may still come to its end.
        patience = settled if job.attempt is not None else 0.0
        if can.findable or can.idempotent_submit or self._rules.callback_base_of(offer.provider) is not None:
            patience = max(settled, self._rules.reconcile.total_seconds())
        pause = SHORTEST_PAUSE
        while True:
            if (known := await self._recorded(attempt)) is not None:
                return known
            submission = await self._submission(job, offer, attempt, given)
            # Of the moment of the question: a machine that stalls must not make an old answer a late one.
            age = attempt.age
            answer = await ask(offer, submission, attempt)
            if isinstance(answer, Reference):
                return await self._record(attempt, answer)
            if answer is None and age >= settled:
                raise NotReachedError(f"{offer.provider.name} never got the request")
            if age >= patience and await self._recorded(attempt) is None:
                raise type(lost)(f"{lost.message}; {answer or 'it may still turn up'}") from lost
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _recorded(self, attempt: OpenAttempt) -> OpenAttempt | None:
        """The purchase, if a worker that lost its lease has written it down meanwhile."""
        with contextlib.suppress(*TRY_LATER):
            reference = read_reference(await queries.reference(self._db, attempt.id))
            if reference is not None:
                return replace(attempt, reference=reference)
        return None


async def record_purchase(writes: Writes, attempt: OpenAttempt, reference: Reference) -> None:
    """Commit what was bought."""
    # A character that PostgreSQL cannot store must not cost us the knowledge of what was bought.
    clean: dict[str, str] = storable(msgspec.to_builtins(reference))
    await writes.purchase(Purchase(attempt.id, clean["external_id"], msgspec.json.encode(clean).decode()))
    log.info("attempt_submitted", external_id=reference.external_id)


async def ask(offer: Offer, submission: Submission, attempt: OpenAttempt) -> Reference | str | None:
    """What is known of an attempt: the purchase, None where the provider has none, or why it cannot be said."""
    provider, can = offer.provider, offer.provider.capabilities
    try:
        if can.findable or can.keeps_answers:
            found = await adapter_calls.find(provider, submission, attempt.created_at)
            if found is not None or can.findable:
                return found
        if can.idempotent_submit:
            return await adapter_calls.submit(provider, submission, patience=can.submit_timeout)
    except ProviderError as error:
        return f"{provider.name} does not say: {error.message}"
    return f"{provider.name} cannot be asked for it"
