"""What somebody who hands in a file may be told.

NotFoundError
└── UploadNotFoundError
InvalidInputError
├── InvalidFormError
├── PictureTooLargeError
└── CutOffFileError
FileTooLargeError
UnsupportedFileError
UploadTimeoutError
UnavailableError
├── UploadsBusyError
└── StoreAwayError
"""

from uuid import UUID

from app.core.errors import FleekError, InvalidInputError, NotFoundError, UnavailableError


class UploadNotFoundError(NotFoundError):
    """The owner has no input file of that id, or it has expired."""

    code = "upload_not_found"
    title = "No such input file"

    def __init__(self, upload_id: UUID) -> None:
        super().__init__(f"there is no file {upload_id}, or it has expired; hand it in with POST /files")


class InvalidFormError(InvalidInputError):
    """The body is no form with one file."""

    code = "invalid_form"
    title = "Invalid form"


class PictureTooLargeError(InvalidInputError):
    """The picture has more pixels than anybody should decode."""

    code = "picture_too_large"
    title = "Picture too large"


class CutOffFileError(InvalidInputError):
    """The picture breaks off before its end."""

    code = "file_cut_off"
    title = "File cut off"


class FileTooLargeError(FleekError):
    """The file has too many bytes."""

    status = 413
    code = "file_too_large"
    title = "File too large"


class UnsupportedFileError(FleekError):
    """The bytes are no picture, video or sound, whatever the form says."""

    status = 415
    code = "unsupported_file"
    title = "Unsupported file"


class UploadTimeoutError(FleekError):
    """The bytes came too slowly, or ceased to come."""

    status = 408
    code = "upload_timeout"
    title = "The file came too slowly"


class UploadsBusyError(UnavailableError):
    """As many files are being handed in as this process has memory for."""

    code = "uploads_busy"
    title = "Too many files at once"


class StoreAwayError(UnavailableError):
    """The store does not take the file now."""

    code = "store_unavailable"
    title = "The store does not answer"
