"""Idempotency keys: a client's name for one request, so that it can be repeated safely.

A key lives as long as the media item that its first request created, and at least IDEMPOTENCY_DAYS: however late a
request is repeated, it does not buy again what is still there. A key whose media item was deleted earlier than that is
kept without one, and refuses.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final

from app.core.database.pool import DatabasePool
from app.core.errors import ConflictError, InvalidInputError

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotent-Replayed"
EXPIRES: Final = "Idempotency-Key-Expires"
MAX_LENGTH: Final = 255
_SWEPT: Final = 1_000
"""Keys that one sweep deletes at most."""
_WELL_FORMED: Final = re.compile(r"[\x21-\x7e]{1,255}")


class InvalidKeyError(InvalidInputError):
    """The header is not a valid key."""

    code = "invalid_idempotency_key"
    title = "Invalid Idempotency-Key"


class KeyReusedError(InvalidInputError):
    """The key was used for a different request."""

    code = "idempotency_key_reused"
    title = "Idempotency-Key belongs to another request"


class KeySpentError(ConflictError):
    """The key's media item was deleted."""

    code = "idempotency_key_spent"
    title = "The media item of this Idempotency-Key was deleted"


@dataclass(frozen=True, slots=True)
class Key:
    """A key and the fingerprint of its request."""

    name: str
    fingerprint: str


def read_key(given: str | None, body: Any) -> Key | None:
    """The key of a request; None: it has none.

    Args:
        given: The header's value.
        body: The validated request, as JSON values.

    Raises:
        InvalidKeyError: It is empty or too long, or has characters other than printable ASCII.
    """
    if given is None:
        return None
    if not _WELL_FORMED.fullmatch(given):
        message = f"1 to {MAX_LENGTH} printable ASCII characters without spaces"
        wrong = {"field": HEADER, "message": message, "given": given[:MAX_LENGTH], "allowed": {"maxLength": MAX_LENGTH}}
        raise InvalidKeyError(f"{HEADER} must be {message}", errors=[wrong])
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return Key(given, hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest())


def expires(first_request: datetime, lifetime: timedelta) -> str:
    """Until when a key is kept whatever happens, as an HTTP date; as long as its media item exists it outlives that."""
    return format_datetime((first_request + lifetime).astimezone(UTC), usegmt=True)


# By the partial index: keys with a media item are not read, however many there are.
DELETE_EXPIRED: Final = f"""DELETE FROM idempotency_keys WHERE (owner_id, key) IN (
    SELECT owner_id, key FROM idempotency_keys
    WHERE media_id IS NULL AND created_at < now() - $1::interval ORDER BY created_at LIMIT {_SWEPT})"""  # noqa: S608


async def delete_expired(db: DatabasePool, lifetime: timedelta) -> None:
    """Delete keys that are older than `lifetime` and whose media item no longer exists."""
    await db.execute(DELETE_EXPIRED, lifetime)
