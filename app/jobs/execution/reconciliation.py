"""Looking up a purchase whose answer was lost: was the attempt accepted by the provider, and under which id.

A worker that was cut off, or frozen, may be in the middle of `submit` while another has taken the media over. `submit`
ends within the provider's `submit_timeout` of the intent; until that time has passed, "there is none" is not believed.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import structlog

from app.core.database.pool import RETRYABLE, DatabasePool
from app.jobs import queries
from app.jobs.execution.job import OpenAttempt, read_reference
from app.jobs.policies import JobPolicy
from app.jobs.transitions.attempt import Purchase, record_purchases
from app.media_generator import adapter_calls
from app.media_generator.errors import AnswerLostError, NotReachedError, ProviderError
from app.media_generator.media_generator_model import Reference, Submission
from app.media_generator.registry import Offer

log = structlog.get_logger(__name__)

MARGIN: Final = 1.0
"""Seconds beyond `submit_timeout` that a machine under load may be late."""
SHORTEST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
"""Seconds between two look-ups of a lost purchase."""


class Reconciler:
    """Looks up lost purchases; one object for all jobs of a process."""

    def __init__(self, db: DatabasePool, policy: JobPolicy) -> None:
        self._db = db
        self._policy = policy

    async def look_up(
        self,
        offer: Offer,
        attempt: OpenAttempt,
        lost: AnswerLostError,
        submission: Callable[[], Awaitable[Submission]],
        *,
        by_other_worker: bool,
    ) -> OpenAttempt:
        """The attempt with its purchase.

        Args:
            offer: The model.
            attempt: Whose answer was lost.
            lost: How.
            submission: What was submitted; made again for each look-up, as its time limit changes.
            by_other_worker: Another worker made the call, which may still come to its end; our own has ended.

        Raises:
            AnswerLostError: The provider cannot say; it is not submitted again.
            NotReachedError: The provider says that there is none.
        """
        log.warning("answer_lost", error=lost.message)
        can = offer.provider.capabilities
        call_over_after = can.submit_timeout.total_seconds() + MARGIN
        give_up_after = call_over_after if by_other_worker else 0.0
        if can.findable or can.idempotent_submit or self._policy.callback_base_of(offer.provider) is not None:
            give_up_after = max(call_over_after, self._policy.reconcile.total_seconds())
        pause = SHORTEST_PAUSE
        while True:
            if (recorded := await self._recorded(attempt)) is not None:
                return recorded
            # Read before the look-up: a machine that stalls must not make an early answer seem a late one.
            age = attempt.age
            answer = await find_purchase(offer, await submission(), attempt)
            if isinstance(answer, Reference):
                await record_purchases(self._db, Purchase.of(attempt.id, answer))
                log.info("attempt_submitted", external_id=answer.external_id)
                return replace(attempt, reference=answer)
            if answer is None and age >= call_over_after:
                raise NotReachedError(f"{offer.provider.name} never got the request")
            if age >= give_up_after and await self._recorded(attempt) is None:
                raise type(lost)(f"{lost.message}; {answer or 'it may still turn up'}") from lost
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _recorded(self, attempt: OpenAttempt) -> OpenAttempt | None:
        """The purchase, if a worker that lost its lease has recorded it meanwhile."""
        with contextlib.suppress(*RETRYABLE):
            reference = read_reference(await queries.purchase_of(self._db, attempt.id))
            if reference is not None:
                return replace(attempt, reference=reference)
        return None


async def find_purchase(offer: Offer, submission: Submission, attempt: OpenAttempt) -> Reference | str | None:
    """What is known of an attempt: the purchase, None where the provider has none, or why it cannot be said."""
    provider, can = offer.provider, offer.provider.capabilities
    try:
        if can.findable or can.keeps_answers:
            found = await adapter_calls.find(provider, submission, attempt.created_at)
            if found is not None or can.findable:
                return found
        if can.idempotent_submit:
            return await adapter_calls.submit(provider, submission, time_limit=can.submit_timeout)
    except ProviderError as error:
        return f"{provider.name} does not say: {error.message}"
    return f"{provider.name} cannot be asked for it"
