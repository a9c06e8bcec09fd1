"""Checks signatures of Standard Webhooks on callbacks, as several providers sign.

Source: standard-webhooks/standard-webhooks, spec/standard-webhooks.md, symmetric signatures (v1).
"""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from app.media_generator.callbacks import TOLERANCE, Callback, CallbackRefusedError

PREFIX: Final = "whsec_"
MIN_KEY_BYTES: Final = 16
"""Bytes; the specification asks for 24."""
_MAX_TIMESTAMP_DIGITS: Final = 12


def verify(callback: Callback, secrets: Sequence[str]) -> None:
    """Make sure that a callback was signed with one of these secrets, a moment ago.

    Args:
        callback: As it came in.
        secrets: `whsec_` and the key in base64; while one replaces another, both.

    Raises:
        CallbackRefusedError: It was not, or it is too old, or nothing is known to check it with.
    """
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    webhook_id, timestamp, given = (callback.headers.get(name, "") for name in names)
    if not (webhook_id and timestamp.isascii() and timestamp.isdigit() and len(timestamp) < _MAX_TIMESTAMP_DIGITS):
        raise CallbackRefusedError("it carries no signature")
    signed_at = datetime.fromtimestamp(int(timestamp), UTC)
    if abs(callback.received_at - signed_at) > TOLERANCE:
        raise CallbackRefusedError(f"it was signed at {signed_at.isoformat()}")
    if not secrets:
        raise CallbackRefusedError("there is no key yet to check it with")
    content = b"%s.%s.%s" % (webhook_id.encode(), timestamp.encode(), callback.body)
    expected = [b"v1," + b64encode(hmac.digest(_key(secret), content, "sha256")) for secret in secrets]
    candidates = [candidate.encode() for candidate in given.split(" ")]
    if not any(hmac.compare_digest(one, candidate) for one in expected for candidate in candidates):
        raise CallbackRefusedError("its signature does not fit")


def _key(secret: str) -> bytes:
    try:
        key = b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError as error:
        raise CallbackRefusedError("the key to check it with is not base64") from error
    if len(key) < MIN_KEY_BYTES:
        # As of an empty setting, or of an answer that holds null: anybody could sign with it.
        raise CallbackRefusedError(f"the key to check it with has less than {MIN_KEY_BYTES} bytes")
    return key
