"""The errors that a client of the API may see, each with its HTTP status and its stable code.

FleekError
├── SettingsError          a setting is invalid; the process does not start
├── NotFoundError          404 not_found
├── ConflictError          409 conflict
├── InvalidInputError      422 invalid_input
├── TooManyRequestsError   429 too_many_requests (`http_server/client_limit.py`)
└── UnavailableError       503 unavailable: a part of the service does not respond
    ├── DatabaseUnavailableError   503 database_unavailable
    ├── DatabaseFullError          503 database_full
    └── ExhaustedError             503 the server has none left of:
        ├── DiskFullError              disk_full
        ├── TooManyOpenFilesError      too_many_open_files
        └── OutOfMemoryError           out_of_memory
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

MOST_FAULTS: Final = 20
"""Wrong fields that one response names."""
_MAX_CHARACTERS: Final = 200


def brief(given: Any) -> Any:
    """The given value, short enough to be repeated in a response."""
    if isinstance(given, str):
        return given if len(given) <= _MAX_CHARACTERS else f"{given[:_MAX_CHARACTERS]}…"
    return given if given is None or isinstance(given, bool | int | float) else type(given).__name__


class FleekError(Exception):
    """An error that may be shown to a caller."""

    status: ClassVar[int] = 500
    """The HTTP status of the response."""
    code: ClassVar[str] = "internal_error"
    """The stable name that programs act on."""
    title: ClassVar[str] = "Internal error"
    """The same in words, always the same for one code."""

    def __init__(
        self,
        detail: str,
        *,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        """What happened this time and what to change."""
        self.errors = tuple(errors)
        """One entry for each wrong field: `field`, `message`, `given`, `allowed`."""
        self.headers = dict(headers or {})
        """Headers of the response, such as Retry-After."""
        self.members = members
        """Further members of the problem document."""


class SettingsError(FleekError):
    """A setting is invalid."""

    code = "invalid_settings"
    title = "Invalid settings"


class NotFoundError(FleekError):
    """It does not exist, or belongs to another owner."""

    status = 404
    code = "not_found"
    title = "Not found"


class ConflictError(FleekError):
    """Its state does not allow this."""

    status = 409
    code = "conflict"
    title = "Conflict"


class InvalidInputError(FleekError):
    """The request is wrong; `errors` says where."""

    status = 422
    code = "invalid_input"
    title = "Invalid input"


class UnavailableError(FleekError):
    """A part of the service does not respond now; the same request may succeed later."""

    status = 503
    code = "unavailable"
    title = "Temporarily unavailable"


class DatabaseUnavailableError(UnavailableError):
    """PostgreSQL does not respond."""

    code = "database_unavailable"
    title = "The database does not answer"


class DatabaseFullError(UnavailableError):
    """PostgreSQL responds, but cannot write: its disk is full."""

    code = "database_full"
    title = "The database is full"


class ExhaustedError(UnavailableError):
    """The server itself has run out of something; what was requested is not done."""


class DiskFullError(ExhaustedError):
    """The server's own disk is full, or the part of it that the process may use."""

    code = "disk_full"
    title = "The server's disk is full"


class TooManyOpenFilesError(ExhaustedError):
    """The process has as many files and connections open as it may."""

    code = "too_many_open_files"
    title = "Too many open files"


class OutOfMemoryError(ExhaustedError):
    """There was no memory for the request."""

    code = "out_of_memory"
    title = "Out of memory"
