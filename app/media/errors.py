"""What a caller of the media API may be told.

NotFoundError
├── MediaNotFoundError
├── JobNotFoundError
├── FileNotFoundInMediaError
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
└── AnswerNotKeptError
"""

from uuid import UUID

from app.core.errors import ConflictError, InvalidInputError, NotFoundError
from app.jobs.callbacks.errors import AnswerNotKeptError, CallbackRefusedInRequestError, ProviderNotFoundError
from app.jobs.inputs.errors import InputFileError
from app.jobs.states import FINAL, CancelAnswer

__all__ = [
    "AnswerNotKeptError",
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


class ModelNotFoundError(NotFoundError):
    """Nobody offers that model."""

    code = "model_not_found"
    title = "No such model"


class UnknownModelInRequestError(InvalidInputError):
    """The request names a model that nobody offers."""

    code = "unknown_model"
    title = "Unknown model"


class ModelRetiredInRequestError(InvalidInputError):
    """The request names a model that is not sold any more."""

    code = "model_retired"
    title = "Model retired"


class ModelGoneInRequestError(InvalidInputError):
    """The request names a model that its provider turned out to have no longer."""

    code = "model_gone"
    title = "Model gone"


class MediaNotRetryableError(ConflictError):
    """The media is still on its way, or done."""

    code = "media_not_retryable"
    title = "Media cannot be tried again"

    def __init__(self, media_id: UUID, status: str) -> None:
        super().__init__(
            f"media {media_id} is {status}; only ERROR and CANCELED can be tried again", media_status=status
        )


class CancelTooLateError(ConflictError):
    """The media is over, or its provider cannot stop it any more."""

    code = "cancel_too_late"
    title = "Too late to cancel"

    def __init__(self, media_id: UUID, status: str, money_spent: str) -> None:
        goes_on = "is over" if status in FINAL else "goes on: its provider does not stop it"
        super().__init__(
            f"media {media_id} is {status} and {goes_on}",
            media_status=status,
            answer=CancelAnswer.TOO_LATE,
            money_spent=money_spent,
        )


class MediaNotCompletedError(ConflictError):
    """The media has no files yet, or never will."""

    code = "media_not_completed"
    title = "Media is not completed"

    def __init__(self, media_id: UUID, status: str) -> None:
        super().__init__(f"media {media_id} is {status}; its files are there once it is COMPLETED", media_status=status)
