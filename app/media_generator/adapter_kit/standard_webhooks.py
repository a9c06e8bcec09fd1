"""Verifies callbacks that are signed by the Standard Webhooks specification, which several providers use.

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
"""The specification asks for 24."""
_MAX_TIMESTAMP_DIGITS: Final = 12


def verify(callback: Callback, secrets: Sequence[str]) -> None:
    """Verify that a callback was signed with one of these secrets, and recently.

    Args:
        callback: As received.
        secrets: `whsec_` and the key in base64; during a rotation both.

    Raises:
        CallbackRefusedError: The signature is wrong or too old, or there is no key yet.
    """
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    webhook_id, timestamp, given = (callback.headers.get(name, "") for name in names)
    if not (webhook_id and timestamp.isascii() and timestamp.isdigit() and len(timestamp) < _MAX_TIMESTAMP_DIGITS):
        raise CallbackRefusedError("it has no signature")
    signed_at = datetime.fromtimestamp(int(timestamp), UTC)
    if abs(callback.received_at - signed_at) > TOLERANCE:
        raise CallbackRefusedError(f"it was signed at {signed_at.isoformat()}")
    if not secrets:
        raise CallbackRefusedError("there is no key yet to verify it with")
    content = b"%s.%s.%s" % (webhook_id.encode(), timestamp.encode(), callback.body)
    expected = [b"v1," + b64encode(hmac.digest(_key(secret), content, "sha256")) for secret in secrets]
    candidates = [candidate.encode() for candidate in given.split(" ")]
    if not any(hmac.compare_digest(one, candidate) for one in expected for candidate in candidates):
        raise CallbackRefusedError("its signature does not match")


def _key(secret: str) -> bytes:
    try:
        key = b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError as error:
        raise CallbackRefusedError("the key to verify it with is not base64") from error
    if len(key) < MIN_KEY_BYTES:
        # Such as an empty setting, or a null in an answer: anybody could sign with it.
        raise CallbackRefusedError(f"the key to verify it with has fewer than {MIN_KEY_BYTES} bytes")
    return key
