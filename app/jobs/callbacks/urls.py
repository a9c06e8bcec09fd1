"""The URL at which a provider may call back for one attempt. It proves for which: it cannot be guessed.

A signature proves who calls, and about which purchase, but not for which attempt. The secret part of the URL is an
HMAC-SHA-256 of the attempt's id. Its key is made by the first worker that needs it, one for each provider, and stored
in `provider_keys`, where the API finds it as it finds the keys of signatures.
"""

import hmac
import secrets
from typing import Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.core.redaction import learn
from app.jobs.callbacks import signing_keys
from app.jobs.policies import JobPolicy
from app.media_generator.media_generator_model import MediaGeneratorModel

_KEY_BYTES: Final = 32


class CallbackUrls:
    """Makes callback URLs; one for each process that submits."""

    def __init__(self, db: DatabasePool, policy: JobPolicy) -> None:
        self._db = db
        self._policy = policy
        self._keys = dict[str, str]()

    async def of(self, provider: MediaGeneratorModel, attempt_id: UUID) -> str | None:
        """The URL, which only the provider receives; None: it does not call back."""
        base = self._policy.callback_base_of(provider)
        if base is None:
            return None
        secret = secret_part(await self._key(provider.name), attempt_id)
        return f"{base}/media/callbacks/{provider.name}/{attempt_id}/{secret}"

    async def _key(self, provider: str) -> str:
        if provider not in self._keys:
            self._keys[provider] = await signing_keys.url_key(
                self._db, key_name(provider), secrets.token_hex(_KEY_BYTES)
            )
            learn([self._keys[provider]])
        return self._keys[provider]


def key_name(provider: str) -> str:
    """Under which name the key is stored: not the provider's own, whose keys are not secret."""
    return f"{provider} addresses"


def secret_part(key: str, attempt_id: UUID) -> str:
    """The part of the URL that only we can have made: 64 hex digits."""
    return hmac.digest(key.encode(), attempt_id.bytes, "sha256").hex()
