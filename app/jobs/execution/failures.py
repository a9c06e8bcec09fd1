"""How a failed attempt ends: with another try, or with the media's ERROR."""

from datetime import timedelta
from decimal import Decimal
from typing import Final

import msgspec
import structlog

from app.core.database.text import storable
from app.jobs.billing import reported
from app.jobs.execution.fallback import RouteFallback
from app.jobs.execution.job import Job, OpenAttempt
from app.jobs.job_errors import HELD_AS_UNKNOWN
from app.jobs.metrics import recording
from app.jobs.policies import JobPolicy
from app.jobs.states import AttemptStatus, OnUnknown
from app.jobs.transitions.commands import AttemptOutcome, Failure
from app.jobs.transitions.group_commit import LeaseLostError, Writes
from app.media_generator.errors import CreditError, GenerationFailedError, ProviderError, Sent, UnauthorizedError

log = structlog.get_logger(__name__)

CLOSES_GATE: Final = (UnauthorizedError, CreditError)
"""What says that nothing can be bought from a provider, whatever is asked for."""
LONGEST_MESSAGE: Final = 4_000
"""Characters of an error that are kept: each event and each webhook carries them."""
FIRST_LOOK: Final = timedelta(seconds=30)
"""Until somebody looks again for an outcome that nobody knew."""


class FailureHandler:
    """Writes down how attempts failed and what follows."""

    def __init__(self, writes: Writes, rules: JobPolicy, rerouter: RouteFallback) -> None:
        self._writes = writes
        self.rerouter = rerouter
        self.rules = rules

    async def settle(self, job: Job, attempt: OpenAttempt | None, error: ProviderError, *, spare: bool = False) -> None:
        """End an attempt.

        Args:
            job: Whose attempt it was.
            attempt: None: it failed before there was one, and none will follow.
            error: Why.
            spare: It is not this media's fault: it is tried again, however often it was.

        Raises:
            LeaseLostError: The media is not this worker's any more; how the attempt ended is known all the same.
        """
        pause = self.rules.gate_pause if spare else self._pause(job, attempt, error)
        log.warning(
            "attempt_failed",
            code=error.code,
            message=error.message,
            sent=error.sent,
            retry_in_seconds=pause and round(pause.total_seconds(), 1),
        )
        unknown = error.sent is Sent.UNKNOWN
        held = unknown and pause is None and job.terms.on_unknown is OnUnknown.HOLD
        failure = Failure(
            held=job.held,
            attempt_id=attempt.id if attempt is not None else None,
            attempt_status=AttemptStatus.UNKNOWN if unknown else AttemptStatus.FAILED,
            sent=error.sent,
            error=as_json(error, HELD_AS_UNKNOWN if held else ""),
            retry_after=pause,
            look_after=FIRST_LOOK if held else None,
        )
        final = pause is None or (spare and error.sent is Sent.NO)
        if final and await self.rerouter.after(job, attempt, error, failure.error):
            if attempt is not None:
                recording.attempt_ended(job.model, AttemptStatus.FAILED, code=error.code)
            return
        try:
            await self._writes.end(failure)
        except LeaseLostError:
            if attempt is not None and not unknown:
                await self._writes.close(AttemptOutcome(attempt.id, AttemptStatus.FAILED, error.sent, failure.error))
            raise
        if attempt is not None:
            recording.attempt_ended(job.model, failure.attempt_status, code=error.code)

    async def begin_anew(self, job: Job, attempt: OpenAttempt, cost: Decimal | None) -> None:
        """End an attempt that we ourselves had stopped, and let another follow at once.

        Raises:
            LeaseLostError: The media is not this worker's any more.
        """
        await self._writes.close(AttemptOutcome(attempt.id, AttemptStatus.CANCELED, Sent.YES, bill=reported(cost)))
        recording.attempt_ended(job.model, AttemptStatus.CANCELED, cost=cost)
        error = GenerationFailedError("it was stopped after its deadline")
        await self._writes.end(
            Failure(job.held, None, AttemptStatus.CANCELED, Sent.YES, as_json(error), retry_after=timedelta(0))
        )

    def _pause(self, job: Job, attempt: OpenAttempt | None, error: ProviderError) -> timedelta | None:
        if attempt is None:
            return None
        tries = max(attempt.number - job.terms.spared, 1)
        return self.rules.retry.after(error, tries, on_unknown=job.terms.on_unknown)


def as_json(error: ProviderError, what_next: str = "") -> str:
    """The `error` that a media's owner reads."""
    said = error.message if len(error.message) <= LONGEST_MESSAGE else f"{error.message[:LONGEST_MESSAGE]} ..."
    message = f"{said}; {what_next}" if what_next else said
    return msgspec.json.encode({"code": error.code, "message": storable(message)}).decode()
