"""Errors of a media that no provider is to blame for."""

from dataclasses import dataclass
from typing import Final

import msgspec


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a media is over: the `error` that its owner reads."""

    code: str
    message: str
    meaning: str
    """The same in a sentence, for the documentation."""
    sent: str = "see `/attempts`"
    """Whether it may have cost money, in words."""

    @property
    def as_json(self) -> str:
        """As it is stored."""
        return msgspec.json.encode({"code": self.code, "message": self.message}).decode()


DEADLINE_EXCEEDED: Final = JobError(
    "deadline_exceeded",
    "it was not finished by its deadline; if its try was paid and the result still comes, it is stored, and "
    "POST /media/{media_id}/retry completes the media with it",
    "It was not finished by its deadline.",
)
WORKER_LOST: Final = JobError(
    "worker_lost",
    "too many workers died while they had it in hand; what was bought is kept, and POST /media/{media_id}/retry "
    "goes on with it",
    "Too many workers died while they had it in hand.",
)
JOB_BROKEN: Final = JobError(
    "job_broken",
    "working on it failed in a way that nobody foresaw; the workers' log says how. What was bought is kept, and "
    "POST /media/{media_id}/retry goes on with it",
    "A defect: working on it failed again and again; the workers' log says how.",
)
JOB_ERRORS: Final = (JOB_BROKEN, DEADLINE_EXCEEDED, WORKER_LOST)

HELD_AS_UNKNOWN: Final = (
    "it may have been paid, so it is not bought again by itself; POST /media/{media_id}/retry buys it again, knowingly"
)
"""What follows the reason of an attempt whose outcome nobody knows."""
