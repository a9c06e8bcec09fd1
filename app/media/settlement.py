"""How a failed attempt ends: with another try, or with the media's ERROR."""

import msgspec
import structlog

from app.media.commands import Failure
from app.media.jobs import Job, OpenAttempt
from app.media.retry import RetryPolicy
from app.media.states import AttemptStatus
from app.media.writes import Writes
from app.media_generator.errors import ProviderError, Sent

log = structlog.get_logger(__name__)


async def settle(
    writes: Writes, policy: RetryPolicy, job: Job, attempt: OpenAttempt | None, error: ProviderError
) -> None:
    """Write down how an attempt failed and what follows.

    Args:
        writes: Where to.
        policy: Decides whether there is another try.
        job: Whose attempt it was.
        attempt: None: it failed before there was one, and none will follow.
        error: Why.

    Raises:
        LeaseLostError: The media is not this worker's any more.
    """
    pause = policy.after(error, attempt.number) if attempt is not None else None
    log.warning(
        "attempt_failed",
        code=error.code,
        message=error.message,
        sent=error.sent,
        retry_in_seconds=pause and round(pause.total_seconds(), 1),
    )
    unknown = error.sent is Sent.UNKNOWN
    await writes.end(
        Failure(
            held=job.held,
            attempt_id=attempt.id if attempt is not None else None,
            attempt_status=AttemptStatus.UNKNOWN if unknown else AttemptStatus.FAILED,
            sent=error.sent,
            error=msgspec.json.encode({"code": error.code, "message": error.message.replace("\x00", "")}).decode(),
            retry_after=pause,
        )
    )
