"""How a failed attempt ends: with another attempt, at the next target of a route, or with the media's ERROR."""

from datetime import timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

import msgspec
import structlog

from app.core.database.pool import DatabasePool
from app.core.database.text import storable
from app.jobs.billing import reported_cost
from app.jobs.execution.answer_keeper import AnswerKeeper
from app.jobs.execution.fallback import RouteFallback
from app.jobs.execution.job import Job, OpenAttempt
from app.jobs.job_errors import HELD_AS_UNKNOWN
from app.jobs.metrics import recording
from app.jobs.policies import JobPolicy
from app.jobs.states import AttemptStatus, OnUnknown
from app.jobs.transitions.base import LeaseLostError
from app.jobs.transitions.failure import Failure, fail, schedule_retries
from app.jobs.transitions.late_attempts import AttemptOutcome, close
from app.media_generator.errors import (
    CreditError,
    GenerationFailedError,
    OutputError,
    ProviderError,
    Sent,
    UnauthorizedError,
)
from app.media_generator.media_generator_model import Running
from app.media_generator.raw_answers import RawAnswer

log = structlog.get_logger(__name__)

MOST_UNREADABLE: Final = 15
"""Answers in a row that cannot be read, a minute or more: a proxy may have given the first ones."""
TRIPS_CIRCUIT: Final = (UnauthorizedError, CreditError)
"""Errors after which the provider accepts nothing, whatever is submitted."""
LONGEST_MESSAGE: Final = 4_000
"""Characters of an error that are kept: each event and each webhook carries them."""
FIRST_CHECK: Final = timedelta(seconds=30)
"""Until an unknown outcome is checked again."""


class FailureHandler:
    """Records how attempts failed and decides what follows."""

    def __init__(self, db: DatabasePool, policy: JobPolicy, fallback: RouteFallback, answers: AnswerKeeper) -> None:
        self._db = db
        self._answers = answers
        self._fallback = fallback
        self._policy = policy

    async def keep_answer(self, attempt_id: UUID, answer: RawAnswer | None) -> bool:
        """Make what the provider answered to an attempt readable; see `AnswerKeeper.keep`."""
        return await self._answers.keep(attempt_id, answer)

    async def handle(
        self, job: Job, attempt: OpenAttempt | None, error: ProviderError, *, always_retry: bool = False
    ) -> None:
        """End an attempt.

        Args:
            job: Whose attempt it was.
            attempt: None: it failed before there was one, and none will follow.
            error: Why.
            always_retry: The provider was unavailable: it is retried however many attempts there were.

        Raises:
            LeaseLostError: The lease is lost; how the attempt ended is recorded all the same.
        """
        pause = self._policy.circuit_pause if always_retry else self._pause(job, attempt, error)
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
            lease=job.lease,
            attempt_id=attempt.id if attempt is not None else None,
            attempt_status=AttemptStatus.UNKNOWN if unknown else AttemptStatus.FAILED,
            sent=error.sent,
            error=as_json(error, HELD_AS_UNKNOWN if held else ""),
            retry_after=pause,
            look_after=FIRST_CHECK if held else None,
        )
        final = pause is None or (always_retry and error.sent is Sent.NO)
        if final and await self._fallback.after_failure(job, attempt, error, failure.error):
            if attempt is not None:
                recording.attempt_ended(job.model, AttemptStatus.FAILED, code=error.code)
            return
        try:
            await self._write(failure)
        except LeaseLostError:
            if attempt is not None and not unknown:
                await close(self._db, AttemptOutcome(attempt.id, AttemptStatus.FAILED, error.sent, failure.error))
            raise
        if attempt is not None:
            recording.attempt_ended(job.model, failure.attempt_status, code=error.code)

    async def restart(self, job: Job, attempt: OpenAttempt, cost: Decimal | None) -> None:
        """End an attempt that we had stopped ourselves, and let another follow at once.

        Raises:
            LeaseLostError: The lease is lost.
        """
        outcome = AttemptOutcome(attempt.id, AttemptStatus.CANCELED, Sent.YES, cost=reported_cost(cost))
        await close(self._db, outcome)
        recording.attempt_ended(job.model, AttemptStatus.CANCELED, cost=cost)
        error = as_json(GenerationFailedError("it was stopped after its deadline"))
        await self._write(Failure(job.lease, None, AttemptStatus.CANCELED, Sent.YES, error, retry_after=timedelta(0)))

    async def _write(self, failure: Failure) -> None:
        await (fail if failure.retry_after is None else schedule_retries)(self._db, failure)

    def _pause(self, job: Job, attempt: OpenAttempt | None, error: ProviderError) -> timedelta | None:
        if attempt is None:
            return None
        attempts = max(attempt.number - job.terms.uncounted, 1)
        return self._policy.retry.delay_before_retry(error, attempts, on_unknown=job.terms.on_unknown)


def unreadable_answer(provider: str, outcome: Running) -> OutputError:
    """The error of a purchase whose provider answers with what cannot be read."""
    error = OutputError(f"what {provider} answers cannot be read: {outcome.not_reached}")
    error.answer = outcome.answer
    return error


def as_json(error: ProviderError, what_next: str = "") -> str:
    """The `error` that a media item's owner reads."""
    cut = error.message if len(error.message) <= LONGEST_MESSAGE else f"{error.message[:LONGEST_MESSAGE]} ..."
    message = f"{cut}; {what_next}" if what_next else cut
    return msgspec.json.encode({"code": error.code, "message": storable(message)}).decode()
