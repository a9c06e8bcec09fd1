"""Looking up a purchase whose answer was lost: was the attempt accepted by the provider, and under which id.

A worker that was cut off, or frozen, may be in the middle of `submit` while another has taken the media over. `submit`
ends within the provider's `submit_timeout` of the intent; until that time has passed, "there is none" is not believed.

A provider that stores no id of ours returns what is like the submission (`Candidates`). What belongs to another attempt
is left out, and the only one that is left is recorded, unless another attempt may have made it: `record_purchases`
decides that in one statement. What cannot be told apart settles nothing.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from app.core import clock
from app.core.database.pool import RETRYABLE, DatabasePool
from app.jobs import queries
from app.jobs.execution.failures import MOST_UNREADABLE
from app.jobs.execution.job import OpenAttempt, read_reference
from app.jobs.policies import JobPolicy
from app.jobs.transitions.attempt import Purchase, PurchaseRecord, record_purchases
from app.media_generator import adapter_calls
from app.media_generator.errors import (
    AnswerLostError,
    AnswerPendingError,
    BusyError,
    CreditError,
    NotReachedError,
    ProviderError,
    UnauthorizedError,
    UnreadableAnswerError,
)
from app.media_generator.media_generator_model import Candidates, Reference, Submission
from app.media_generator.registry import Offer

log = structlog.get_logger(__name__)

MARGIN: Final = 1.0
"""Seconds beyond `submit_timeout` that a machine under load may be late."""
SHORTEST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
"""Seconds between two look-ups of a lost purchase."""
_CANNOT_BE_ASKED: Final = (
    NotReachedError,
    BusyError,
    UnauthorizedError,
    CreditError,
    AnswerPendingError,
    UnreadableAnswerError,
)
"""Errors of a look-up after which the provider is to be asked again, however long that takes."""


@dataclass(frozen=True, slots=True)
class LookUp:
    """What is known of an attempt after its provider was asked for it."""

    purchase: Reference | None = None
    """Recorded as this attempt's."""
    there_is_none: bool = False
    """The provider says so."""
    reason: str = ""
    """Why neither can be said."""
    answered: bool = True
    """Whether the provider could be asked."""
    unreadable: bool = False
    """It answered, and what it said cannot be read."""


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
        call_over_after = offer.provider.capabilities.submit_timeout.total_seconds() + MARGIN
        window = _Window(offer, self._policy, not_before=call_over_after if by_other_worker else 0.0)
        pause = SHORTEST_PAUSE
        while True:
            if (recorded := await self._recorded(attempt)) is not None:
                return recorded
            # Read before the look-up: a machine that stalls must not make an early answer seem a late one.
            age = attempt.age
            found = await find_purchase(self._db, offer, await submission(), attempt)
            if found.purchase is not None:
                return replace(attempt, reference=found.purchase)
            if found.there_is_none and age >= call_over_after:
                raise NotReachedError(f"{offer.provider.name} never got the request")
            if window.is_over(age, found) and await self._recorded(attempt) is None:
                raise type(lost)(f"{lost.message}; {found.reason or 'it may still turn up'}") from lost
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _recorded(self, attempt: OpenAttempt) -> OpenAttempt | None:
        """The purchase, if a worker that lost its lease has recorded it meanwhile."""
        with contextlib.suppress(*RETRYABLE):
            reference = read_reference(await queries.purchase_of(self._db, attempt.id))
            if reference is not None:
                return replace(attempt, reference=reference)
        return None


class _Window:
    """How long a lost purchase is looked up: `reconcile` from the first time that the provider could be asked.

    While it cannot be asked nothing is decided, for `silence` at most: an outage must not make an outcome unknown.
    """

    def __init__(self, offer: Offer, policy: JobPolicy, *, not_before: float) -> None:
        can = offer.provider.capabilities
        self._asks = can.findable or can.idempotent_submit
        self._waits = self._asks or policy.callback_base_of(offer.provider) is not None
        self._not_before = max(not_before, can.submit_timeout.total_seconds() + MARGIN if self._waits else 0.0)
        self._seconds = policy.reconcile.total_seconds()
        self._longest = policy.silence.total_seconds()
        self._since = None if self._asks else clock.seconds()
        self._unreadable = 0
        """Look-ups in a row whose answers could not be read."""

    def is_over(self, age: float, found: LookUp) -> bool:
        """Whether the media's `on_unknown` decides now; `age` is the attempt's, in seconds."""
        self._unreadable = self._unreadable + 1 if found.unreadable else 0
        answered = found.answered or self._unreadable >= MOST_UNREADABLE
        if self._since is None and answered:
            self._since = clock.seconds()
        if age < self._not_before:
            return False
        if not self._waits or age >= self._longest:
            return True
        # One look-up that failed decides nothing: what was answered before may have come too early to be believed.
        if self._since is None or (self._asks and not answered):
            return False
        return clock.seconds() - self._since >= self._seconds


async def find_purchase(
    db: DatabasePool, offer: Offer, submission: Submission, attempt: OpenAttempt, *, may_submit: bool = True
) -> LookUp:
    """Ask the provider for the purchase of an attempt; one that is found is recorded.

    Args:
        db: The database.
        offer: The model.
        submission: As it was submitted.
        attempt: Whose answer was lost.
        may_submit: Whether to submit it again where the provider then returns the same purchase.
    """
    try:
        found = await _ask(offer, submission, attempt, may_submit=may_submit)
    except ProviderError as error:
        reason = f"{offer.provider.name} does not say: {error.message}"
        unreadable = isinstance(error, UnreadableAnswerError)
        return LookUp(reason=reason, answered=not isinstance(error, _CANNOT_BE_ASKED), unreadable=unreadable)
    if isinstance(found, Reference):
        return await _record(db, offer, attempt, found, proven=True)
    if isinstance(found, Candidates):
        return await _choose(db, offer, attempt, found)
    return found


async def _ask(
    offer: Offer, submission: Submission, attempt: OpenAttempt, *, may_submit: bool
) -> Reference | Candidates | LookUp:
    provider, can = offer.provider, offer.provider.capabilities
    if can.findable or can.keeps_answers:
        found = await adapter_calls.find(provider, submission, attempt.created_at)
        if found is not None:
            return found
        if can.findable:
            return LookUp(there_is_none=True)
    if can.idempotent_submit and may_submit:
        return await adapter_calls.submit(provider, submission, time_limit=can.submit_timeout)
    return LookUp(reason=f"{provider.name} cannot be asked for it")


async def _choose(db: DatabasePool, offer: Offer, attempt: OpenAttempt, found: Candidates) -> LookUp:
    """Of the purchases that are like this attempt the only one that can be its own."""
    ids = [one.external_id for one in (*found.alike, *found.doubtful)]
    taken = await queries.taken_purchases(db, attempt.id, ids)
    alike = [one for one in found.alike if one.external_id not in taken]
    doubtful = [one for one in found.doubtful if one.external_id not in taken]
    if doubtful:
        return LookUp(reason=f"{offer.provider.name} has {doubtful[0].external_id}, which may be this one: {found.why}")
    if len(alike) > 1:
        return LookUp(reason=f"{offer.provider.name} has {len(alike)} that may be this one")
    if not alike:
        return LookUp(there_is_none=True)
    return await _record(db, offer, attempt, alike[0], proven=False)


async def _record(
    db: DatabasePool, offer: Offer, attempt: OpenAttempt, reference: Reference, *, proven: bool
) -> LookUp:
    recorded = await record_purchases(db, Purchase.of(attempt.id, reference, proven=proven))
    if recorded in {PurchaseRecord.TAKEN, PurchaseRecord.CONTESTED}:
        log.warning("purchase_not_recorded", external_id=reference.external_id, reason=recorded)
        whose = "belongs to another attempt" if recorded is PurchaseRecord.TAKEN else "may be another attempt's"
        return LookUp(reason=f"{reference.external_id} of {offer.provider.name} {whose}")
    if recorded is PurchaseRecord.SETTLED:
        # Somebody else has recorded what became of it: that counts, not what was found here.
        known = read_reference(await queries.purchase_of(db, attempt.id))
        return LookUp(purchase=known, reason="what became of it is on record already")
    log.info("attempt_submitted", external_id=reference.external_id)
    return LookUp(purchase=reference)
