"""Idempotency keys: a client's name for one request, so that it can be repeated safely."""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from app.core.database.pool import DatabasePool
from app.core.errors import InvalidInputError

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotent-Replayed"
MAX_LENGTH: Final = 255
_WELL_FORMED: Final = re.compile(r"[\x21-\x7e]{1,255}")


class InvalidKeyError(InvalidInputError):
    """The header is not a valid key."""

    code = "invalid_idempotency_key"
    title = "Invalid Idempotency-Key"


class KeyReusedError(InvalidInputError):
    """The key was used for a different request."""

    code = "idempotency_key_reused"
    title = "Idempotency-Key belongs to another request"


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


async def delete_expired(db: DatabasePool, lifetime: timedelta) -> None:
    """Delete keys older than `lifetime`; their media stay."""
    await db.execute("DELETE FROM idempotency_keys WHERE created_at < now() - $1::interval", lifetime)
