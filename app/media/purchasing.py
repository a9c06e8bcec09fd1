"""The part of a generation that spends money: intent, submit, purchase.

Once begun it runs to its end: it is shielded from cancellation, and a stopping worker waits for it. So only a
crash leaves an intent open, and then the provider is asked what became of it before anything else is done.
"""

import asyncio
import hashlib

import msgspec
import structlog

from app.core.ids import new_id
from app.media.commands import Held, Intent, Purchase
from app.media.jobs import Job, OpenAttempt
from app.media.retry import RetryPolicy
from app.media.settlement import settle
from app.media.writes import LeaseLostError, Writes
from app.media_generator.errors import AnswerLostError, NotReachedError, ProviderDefectError, ProviderError
from app.media_generator.media_generator_model import Reference, Submission
from app.media_generator.registry import Offer

log = structlog.get_logger(__name__)


class Purchasing:
    """Buys generations, each in a task of its own that nobody's cancellation reaches."""

    def __init__(self, writes: Writes, policy: RetryPolicy) -> None:
        self._writes = writes
        self._policy = policy
        self.running: dict[Held, asyncio.Task[OpenAttempt | None]] = {}
        """The calls that may be spending money now."""

    async def obtain(self, job: Job, offer: Offer) -> OpenAttempt | None:
        """A purchase that can be polled; None: the try failed, and that is written down.

        Raises:
            LeaseLostError: The media is not this worker's any more; nothing was bought.
        """
        if job.attempt is not None and job.attempt.reference is not None:
            return job.attempt
        task = asyncio.create_task(self._begin(job, offer))
        self.running[job.held] = task
        task.add_done_callback(lambda task: self._ended(job.held, task))
        return await asyncio.shield(task)

    async def finish(self) -> None:
        """Wait for every call that is spending money."""
        while self.running:
            await asyncio.wait(self.running.values())

    def _ended(self, held: Held, task: asyncio.Task[OpenAttempt | None]) -> None:
        self.running.pop(held, None)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, LeaseLostError):
            # Its caller may be gone; then nobody else would say so.
            log.error("purchase_broken", error=repr(error))

    async def _begin(self, job: Job, offer: Offer) -> OpenAttempt | None:
        attempt = job.attempt
        try:
            if attempt is not None:
                error = AnswerLostError("the worker died while it was asking the provider")
                return await self._look_up(job, offer, attempt, error)
            attempt = await self._intend(job, offer)
            try:
                reference = await _submit(offer, job.submission(attempt.id, attempt.number))
            except AnswerLostError as error:
                return await self._look_up(job, offer, attempt, error)
            return await self._record(attempt, reference)
        except ProviderError as error:
            await settle(self._writes, self._policy, job, attempt, error)
            return None

    async def _intend(self, job: Job, offer: Offer) -> OpenAttempt:
        attempt_id = new_id()
        bought = msgspec.json.encode([job.prompt, job.input], order="deterministic")
        number = await self._writes.intend(
            Intent(job.held, attempt_id, offer.full_name, offer.card.version, hashlib.sha256(bought).hexdigest())
        )
        structlog.contextvars.bind_contextvars(attempt=number)
        return OpenAttempt(attempt_id, number, None, job.created_at)

    async def _record(self, attempt: OpenAttempt, reference: Reference) -> OpenAttempt:
        # A character that PostgreSQL cannot store must not cost us the knowledge of what was bought.
        stored = msgspec.json.encode(reference).decode().replace("\\u0000", "")
        await self._writes.purchase(Purchase(attempt.id, reference.external_id.replace("\x00", ""), stored))
        log.info("attempt_submitted", external_id=reference.external_id)
        return OpenAttempt(attempt.id, attempt.number, reference, attempt.created_at)

    async def _look_up(self, job: Job, offer: Offer, attempt: OpenAttempt, lost: AnswerLostError) -> OpenAttempt:
        """The purchase whose answer was lost.

        Raises:
            AnswerLostError: Nobody can say; it is not bought again.
            NotReachedError: The provider says that there is none.
        """
        log.warning("answer_lost", error=lost.message)
        if not offer.provider.capabilities.findable:
            raise AnswerLostError(f"{lost.message}; {offer.provider.name} cannot be asked for it") from lost
        try:
            reference = await offer.provider.find(job.submission(attempt.id, attempt.number), attempt.created_at)
        except ProviderError as error:
            raise AnswerLostError(f"{lost.message}; {offer.provider.name} does not say: {error.message}") from error
        if reference is None:
            raise NotReachedError(f"{offer.provider.name} never got the request")
        return await self._record(attempt, reference)


async def _submit(offer: Offer, submission: Submission) -> Reference:
    try:
        return await offer.provider.submit(submission)
    except ProviderError:
        raise
    except Exception as error:
        log.exception("provider_defect", provider=offer.provider.name)
        raise ProviderDefectError(f"the adapter of {offer.provider.name} failed: {type(error).__name__}") from error
