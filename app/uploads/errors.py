"""Errors of uploads, as clients see them.

NotFoundError
└── UploadNotFoundError
InvalidInputError
├── InvalidFormError
├── PictureTooLargeError
└── TruncatedFileError
FileTooLargeError
UnsupportedFileError
UploadTimeoutError
UnavailableError
├── UploadsBusyError
└── UploadStoreUnavailableError
"""

from uuid import UUID

from app.core.errors import FleekError, InvalidInputError, NotFoundError, UnavailableError


class UploadNotFoundError(NotFoundError):
    """The owner has no input file of that id, or it has expired."""

    code = "upload_not_found"
    title = "No such input file"

    def __init__(self, upload_id: UUID) -> None:
        super().__init__(f"there is no file {upload_id}, or it has expired; upload it with POST /files")


class InvalidFormError(InvalidInputError):
    """The body is not a form with one file."""

    code = "invalid_form"
    title = "Invalid form"


class PictureTooLargeError(InvalidInputError):
    """The picture has more pixels than the limit."""

    code = "picture_too_large"
    title = "Picture too large"


class TruncatedFileError(InvalidInputError):
    """The file ends before its format says so."""

    code = "file_cut_off"
    title = "File is truncated"


class FileTooLargeError(FleekError):
    """The file has too many bytes."""

    status = 413
    code = "file_too_large"
    title = "File too large"


class UnsupportedFileError(FleekError):
    """The bytes are not a picture, video or sound, whatever the form says."""

    status = 415
    code = "unsupported_file"
    title = "Unsupported file"


class UploadTimeoutError(FleekError):
    """The upload was too slow, or stalled."""

    status = 408
    code = "upload_timeout"
    title = "Upload too slow"


class UploadsBusyError(UnavailableError):
    """As many uploads are in progress as this process has memory for."""

    code = "uploads_busy"
    title = "Too many uploads at once"


class UploadStoreUnavailableError(UnavailableError):
    """The store does not accept the file now."""

    code = "store_unavailable"
    title = "The store does not answer"
