"""Errors that callers of the media API receive.

NotFoundError
├── MediaNotFoundError
├── JobNotFoundError
├── FileNotFoundInMediaError
├── AnswerNotFoundError
├── ModelNotFoundError
└── ProviderNotFoundError
ConflictError
├── MediaNotRetryableError
├── CancelTooLateError
└── MediaNotCompletedError
InvalidInputError
├── UnknownModelInRequestError
├── ModelRetiredInRequestError
├── ModelGoneInRequestError
└── InputFileError
CallbackRefusedInRequestError
UnavailableError
├── AnswerNotKeptError
├── AnswerNotReadableError
└── StoreUnavailableInRequestError
"""

from uuid import UUID

from app.core.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from app.jobs.callbacks.errors import AnswerNotKeptError, CallbackRefusedInRequestError, ProviderNotFoundError
from app.jobs.inputs.errors import InputFileError
from app.jobs.states import FINAL, CancelAnswer

__all__ = [
    "AnswerNotFoundError",
    "AnswerNotKeptError",
    "AnswerNotReadableError",
    "CallbackRefusedInRequestError",
    "CancelTooLateError",
    "FileNotFoundInMediaError",
    "InputFileError",
    "JobNotFoundError",
    "MediaNotCompletedError",
    "MediaNotFoundError",
    "MediaNotRetryableError",
    "ModelGoneInRequestError",
    "ModelNotFoundError",
    "ModelRetiredInRequestError",
    "ProviderNotFoundError",
    "StoreUnavailableInRequestError",
    "UnknownModelInRequestError",
]


class MediaNotFoundError(NotFoundError):
    """The owner has no media of that id."""

    code = "media_not_found"
    title = "No such media"


class JobNotFoundError(NotFoundError):
    """The owner has no job of that id."""

    code = "job_not_found"
    title = "No such job"


class FileNotFoundInMediaError(NotFoundError):
    """The media has fewer files."""

    code = "file_not_found"
    title = "No such file"


class AnswerNotFoundError(NotFoundError):
    """Nothing that the provider answered to this attempt is kept."""

    code = "answer_not_found"
    title = "No answer is kept"


class AnswerNotReadableError(UnavailableError):
    """An answer is kept, and the store cannot be read now."""

    code = "answer_not_readable"
    title = "The answer cannot be read now"


class ModelNotFoundError(NotFoundError):
    """There is no model of that name."""

    code = "model_not_found"
    title = "No such model"


class UnknownModelInRequestError(InvalidInputError):
    """The request names a model that does not exist."""

    code = "unknown_model"
    title = "Unknown model"


class ModelRetiredInRequestError(InvalidInputError):
    """The request names a model that has been retired."""

    code = "model_retired"
    title = "Model retired"


class ModelGoneInRequestError(InvalidInputError):
    """The request names a model that its provider no longer has."""

    code = "model_gone"
    title = "Model gone"


class MediaNotRetryableError(ConflictError):
    """The media is in progress, or completed."""

    code = "media_not_retryable"
    title = "Media cannot be retried"

    def __init__(self, media_id: UUID, status: str) -> None:
        super().__init__(f"media {media_id} is {status}; only ERROR and CANCELED can be retried", media_status=status)


class CancelTooLateError(ConflictError):
    """The media has finished, or its provider cannot stop it."""

    code = "cancel_too_late"
    title = "Too late to cancel"

    def __init__(self, media_id: UUID, status: str, money_spent: str) -> None:
        reason = "has finished" if status in FINAL else "continues: its provider cannot stop it"
        super().__init__(
            f"media {media_id} is {status} and {reason}",
            media_status=status,
            answer=CancelAnswer.TOO_LATE,
            money_spent=money_spent,
        )


class MediaNotCompletedError(ConflictError):
    """The media has no files yet, or never will."""

    code = "media_not_completed"
    title = "Media is not completed"

    def __init__(self, media_id: UUID, status: str) -> None:
        super().__init__(f"media {media_id} is {status}; it has files once it is COMPLETED", media_status=status)


class StoreUnavailableInRequestError(UnavailableError):
    """The store does not answer what the request needs of it."""

    code = "store_unavailable"
    title = "The store does not answer"
