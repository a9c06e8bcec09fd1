"""Signatures of Standard Webhooks, by which a receiver checks that an event is ours, complete and recent.

Source: standard-webhooks/standard-webhooks, spec/standard-webhooks.md, symmetric signatures (v1).
"""

import binascii
import hmac
import os
from base64 import b64decode, b64encode
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

PREFIX: Final = "whsec_"
KEY_BYTES: Final = 32
CACHED_KEYS: Final = 4096


def new_secret() -> str:
    """A new secret: `whsec_` and 32 random bytes in base64."""
    return PREFIX + b64encode(os.urandom(KEY_BYTES)).decode()


def signatures(secrets: Iterable[str], webhook_id: str, timestamp: int, body: bytes) -> str:
    """The value of the header `webhook-signature`: one `v1,<base64>` for each secret, separated by spaces.

    Args:
        secrets: As `new_secret` makes them; both during a rotation.
        webhook_id: The header `webhook-id`: the same at every attempt of a delivery.
        timestamp: The header `webhook-timestamp`, seconds since 1970.
        body: The exact bytes that are sent.
    """
    signed = b"%s.%d.%s" % (webhook_id.encode(), timestamp, body)
    # Fast paths: one call into OpenSSL, and binascii without the wrapper of `base64`.
    return " ".join(
        "v1," + binascii.b2a_base64(hmac.digest(_key(secret), signed, "sha256"), newline=False).decode()
        for secret in secrets
    )


def headers(secrets: Iterable[str], webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of Standard Webhooks; the arguments are those of `signatures`."""
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signatures(secrets, webhook_id, timestamp, body),
    }


@lru_cache(maxsize=CACHED_KEYS)
def _key(secret: str) -> bytes:
    return b64decode(secret.removeprefix(PREFIX), validate=True)
