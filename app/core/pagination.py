"""Keyset cursors: opaque to clients; each encodes the position of the last item."""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from app.core.errors import InvalidInputError, brief

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_BYTES: Final = 8


class Place(NamedTuple):
    """The position of an item in a list ordered by time."""

    at: datetime
    id: UUID
    """Breaks ties between items of the same time."""


class InvalidCursorError(InvalidInputError):
    """The cursor was not issued by this API."""

    code = "invalid_cursor"
    title = "Invalid cursor"


def encode_cursor(last: UUID) -> str:
    """The cursor that continues after `last`."""
    return _encode(last.bytes)


def encode_place(last: Place) -> str:
    """The cursor that continues after `last`; to the microsecond, as PostgreSQL stores it."""
    microseconds = (last.at - _EPOCH) // timedelta(microseconds=1)
    return _encode(microseconds.to_bytes(_TIME_BYTES, signed=True) + last.id.bytes)


def decode_cursor(cursor: str) -> UUID:
    """The id after which to continue.

    Raises:
        InvalidCursorError: It was not issued by this API.
    """
    try:
        return UUID(bytes=_decode(cursor))
    except (ValueError, binascii.Error):
        raise _invalid(cursor) from None


def decode_place(cursor: str) -> Place:
    """The place after which to continue.

    Raises:
        InvalidCursorError: It was not issued by this API.
    """
    try:
        place = _decode(cursor)
        microseconds = int.from_bytes(place[:_TIME_BYTES], signed=True)
        return Place(_EPOCH + timedelta(microseconds=microseconds), UUID(bytes=place[_TIME_BYTES:]))
    except (ValueError, OverflowError, binascii.Error):
        raise _invalid(cursor) from None


def encode_name(last: str) -> str:
    """The cursor that continues after the name `last`."""
    return _encode(last.encode())


def decode_name(cursor: str) -> str:
    """The name after which to continue.

    Raises:
        InvalidCursorError: It was not issued by this API.
    """
    try:
        return _decode(cursor).decode()
    except (ValueError, binascii.Error):
        raise _invalid(cursor) from None


def _encode(place: bytes) -> str:
    return base64.urlsafe_b64encode(place).rstrip(b"=").decode()


def _decode(cursor: str) -> bytes:
    return base64.b64decode(cursor + "==", altchars=b"-_", validate=True)


def _invalid(cursor: str) -> InvalidCursorError:
    wrong = {"field": "cursor", "message": "not a cursor of ours", "given": brief(cursor), "allowed": "a `next_cursor`"}
    return InvalidCursorError("give a `next_cursor` of an answer, unchanged", errors=[wrong])
