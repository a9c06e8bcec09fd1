"""The errors that a client of the API may see, each with its HTTP status and its stable code.

FleekError
├── SettingsError          a setting is invalid; the process does not start
├── NotFoundError          404 not_found
├── ConflictError          409 conflict
├── InvalidInputError      422 invalid_input
└── UnavailableError       503 unavailable: a part of ours does not answer
    └── DatabaseUnavailableError   503 database_unavailable
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

MOST_FAULTS: Final = 20
"""Wrong fields that one answer names."""
_LONGEST: Final = 200


def brief(given: Any) -> Any:
    """What was given, short enough to be repeated in an answer."""
    if isinstance(given, str):
        return given if len(given) <= _LONGEST else f"{given[:_LONGEST]}…"
    return given if given is None or isinstance(given, bool | int | float) else type(given).__name__


class FleekError(Exception):
    """Something went wrong that a caller can be told about."""

    status: ClassVar[int] = 500
    """The HTTP status of the answer."""
    code: ClassVar[str] = "internal_error"
    """The stable name that programs act on."""
    title: ClassVar[str] = "Internal error"
    """The same in words, always alike for one code."""

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
        """Headers of the answer, such as Retry-After."""
        self.members = members
        """Further members of the problem document."""


class SettingsError(FleekError):
    """A setting of the operator's is invalid."""

    code = "invalid_settings"
    title = "Invalid settings"


class NotFoundError(FleekError):
    """There is no such thing, or it belongs to somebody else."""

    status = 404
    code = "not_found"
    title = "Not found"


class ConflictError(FleekError):
    """The thing is in a state in which this cannot be done."""

    status = 409
    code = "conflict"
    title = "Conflict"


class InvalidInputError(FleekError):
    """The request is wrong; `errors` says where."""

    status = 422
    code = "invalid_input"
    title = "Invalid input"


class UnavailableError(FleekError):
    """A part of the service does not answer now; the same request may succeed later."""

    status = 503
    code = "unavailable"
    title = "Temporarily unavailable"


class DatabaseUnavailableError(UnavailableError):
    """PostgreSQL does not answer."""

    code = "database_unavailable"
    title = "The database does not answer"
