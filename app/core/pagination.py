"""Keyset cursors: opaque to clients, the id of the last item to us."""

import base64
import binascii
from uuid import UUID

from app.core.errors import InvalidInputError


class InvalidCursorError(InvalidInputError):
    """The cursor is none that we gave out."""

    code = "invalid_cursor"
    title = "Invalid cursor"


def encode_cursor(last: UUID) -> str:
    """The cursor that continues after `last`."""
    return base64.urlsafe_b64encode(last.bytes).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> UUID:
    """The id after which to continue.

    Raises:
        InvalidCursorError: It is none that we gave out.
    """
    try:
        return UUID(bytes=base64.b64decode(cursor + "==", altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        wrong = {
            "field": "cursor",
            "message": "not a cursor of ours",
            "given": cursor,
            "allowed": "a `next_cursor`",
        }
        raise InvalidCursorError("give a `next_cursor` of an answer, unchanged", errors=[wrong]) from None
