"""Errors of a media item that no provider has caused."""

from dataclasses import dataclass
from typing import Final

import msgspec

from app.media_generator.errors import OutputError, OutputGoneError, ProviderError


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a media item ended with ERROR: the `error` that its owner reads."""

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
    "it was not finished by its deadline; if its attempt was charged and the result still comes, it is stored, and "
    "POST /media/{media_id}/retry completes the media with it",
    "It was not finished by its deadline.",
)
WORKER_LOST: Final = JobError(
    "worker_lost",
    "too many workers died while they held it; if it was submitted, POST /media/{media_id}/retry resumes it without "
    "submitting it again",
    "Too many workers died while they held it.",
)
JOB_BROKEN: Final = JobError(
    "job_broken",
    "an unexpected error in the worker; see the workers' log. If it was submitted, POST /media/{media_id}/retry "
    "resumes it without submitting it again",
    "A bug in Fleek or a plug-in: the worker failed at it again and again; see the workers' log.",
)
JOB_ERRORS: Final = (JOB_BROKEN, DEADLINE_EXCEEDED, WORKER_LOST)

HELD_AS_UNKNOWN: Final = (
    "it may have been charged, so it is not submitted again by itself; POST /media/{media_id}/retry submits it again, "
    "and it may be charged again"
)
"""Follows the reason of an attempt whose outcome is unknown."""
FETCHED_AGAIN: Final = (
    "POST /media/{media_id}/retry fetches it again, without another purchase; a new request makes another purchase"
)
"""Follows the reason of an output that the provider may still have."""
BOUGHT_AGAIN: Final = "POST /media/{media_id}/retry makes another purchase, which may be charged again"
"""Follows the reason of an output that is gone."""


def with_next_step(error: ProviderError) -> ProviderError:
    """The error of a purchase whose output cannot be had, with what a retry by its owner does; others unchanged."""
    if isinstance(error, OutputError):
        again = BOUGHT_AGAIN if error.code == OutputGoneError.code else FETCHED_AGAIN
        error.message = f"{error.message}; {again}"
    return error
