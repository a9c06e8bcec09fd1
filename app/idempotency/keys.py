"""Idempotency keys: a caller's name for one request, so that asking again is safe."""

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
LONGEST: Final = 255
_WELL_FORMED: Final = re.compile(r"[\x21-\x7e]{1,255}")


class InvalidKeyError(InvalidInputError):
    """The header holds no usable key."""

    code = "invalid_idempotency_key"
    title = "Invalid Idempotency-Key"


class KeyReusedError(InvalidInputError):
    """The key was used for another request."""

    code = "idempotency_key_reused"
    title = "Idempotency-Key belongs to another request"


@dataclass(frozen=True, slots=True)
class Key:
    """A key and the fingerprint of the request that it names."""

    name: str
    fingerprint: str


def read_key(given: str | None, body: Any) -> Key | None:
    """The key of a request; None: the caller sent none.

    Args:
        given: The header's value.
        body: The request as it was understood; anything that becomes JSON.

    Raises:
        InvalidKeyError: It is empty, too long, or has characters that are not printable ASCII.
    """
    if given is None:
        return None
    if not _WELL_FORMED.fullmatch(given):
        message = f"1 to {LONGEST} printable ASCII characters without spaces"
        wrong = {"field": HEADER, "message": message, "given": given[:LONGEST], "allowed": {"maxLength": LONGEST}}
        raise InvalidKeyError(f"{HEADER} must be {message}", errors=[wrong])
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return Key(given, hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest())


async def forget(db: DatabasePool, lifetime: timedelta) -> None:
    """Remove keys that are over; their media stay."""
    await db.execute("DELETE FROM idempotency_keys WHERE created_at < now() - $1::interval", lifetime)
