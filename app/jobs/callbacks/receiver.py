"""A provider calls back.

Crosses network and database:

1. The URL's secret and the signature are verified, with keys that a worker has fetched. A call that does not match is
   refused, and changes nothing.
2. The call is recorded at its attempt: **the commit point**. From here on the worker that holds the job picks it up
   within CLAIM_INTERVAL_SECONDS, whatever dies; repeated calls change nothing.
3. A purchase whose answer was lost, or that was judged "not sent", is bound to its attempt: the signature proves that
   the provider made it, the URL for which attempt. A call at a URL without a secret, as releases before gave them to
   providers, is a reason to look, and binds nothing. What belongs to another attempt stays there.
4. The worker is notified over Redis, and polls the provider at once.

A provider that cannot be polled calls back with the answer itself, at a URL that only it was given. That answer is
stored before step 2, where the worker finds it when it polls. A crash in between leaves it there: the provider's call
goes unanswered and is repeated, and the next poll finds the answer without any call.
"""

import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import monotonic
from typing import Final
from uuid import UUID

import structlog

from app.core.change_channel import ChangeChannel
from app.core.database.pool import Change, DatabasePool
from app.core.redaction import learn
from app.jobs.callbacks import signing_keys
from app.jobs.callbacks.errors import AnswerNotKeptError, CallbackRefusedInRequestError, ProviderNotFoundError
from app.jobs.callbacks.urls import key_name, secret_part
from app.jobs.transitions import callback as transitions
from app.jobs.transitions.attempt import Purchase, PurchaseRecord, record_purchases
from app.media_generator import adapter_calls
from app.media_generator.callbacks import Callback, CallbackRefusedError, SentFile
from app.media_generator.errors import AnswerLostError
from app.media_generator.media_generator_model import MediaGeneratorModel, Reference
from app.media_generator.registry import Registry

KEYS_SECONDS: Final = 60.0
"""How long this process keeps keys that it has read."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Keys:
    found: list[str]
    until: float


class CallbackReceiver:
    """Receives callbacks; one for each process of the API."""

    def __init__(self, db: DatabasePool, registry: Registry, channel: ChangeChannel) -> None:
        self._db = db
        self._registry = registry
        self._channel = channel
        self._keys = dict[str, _Keys]()

    def brings_answers(self, provider_name: str) -> bool:
        """Whether the callbacks of a provider are its results.

        Raises:
            ProviderNotFoundError: There is no such provider, or it never calls back.
        """
        return self._caller(provider_name).capabilities.webhook_brings_answer

    async def take(self, provider_name: str, callback: Callback, secret: str | None = None) -> None:
        """Record a callback and notify the worker; where the outcome of the purchase is known, nothing changes.

        Args:
            provider_name: Who calls.
            callback: The call.
            secret: The last part of the URL; None: it has none.

        Raises:
            ProviderNotFoundError: There is no such provider, or it never calls back.
            CallbackRefusedInRequestError: It does not come from the provider, or is too old.
        """
        provider = self._caller(provider_name)
        if secret is not None:
            await self._check_secret(provider_name, callback.attempt_id, secret)
        reference = await self._verified(provider, callback)
        await self._record(provider_name, callback.attempt_id, None if secret is None else reference)

    async def take_answer(
        self, provider_name: str, attempt_id: UUID, secret: str, chunks: AsyncIterator[bytes]
    ) -> None:
        """Store an answer that comes as a callback, and notify the worker; nothing is kept for an ended attempt.

        Args:
            provider_name: Who calls.
            attempt_id: For which attempt.
            secret: The last part of the URL.
            chunks: The body, which is read only after all of this matches.

        Raises:
            ProviderNotFoundError: There is no such provider, or its callbacks bring no answers.
            CallbackRefusedInRequestError: No provider was given this URL.
            AnswerNotKeptError: The call must be repeated.
        """
        provider = self._caller(provider_name)
        if not provider.capabilities.webhook_brings_answer:
            raise ProviderNotFoundError(f"callbacks of {provider_name!r} bring no answers")
        await self._check_secret(provider_name, attempt_id, secret)
        if not await signing_keys.expects_answer(self._db, attempt_id, provider_name):
            log.info("callback_too_late", provider=provider_name, attempt_id=str(attempt_id))
            return
        try:
            reference = await provider.take_answer(attempt_id, chunks)
        except AnswerLostError as error:
            raise AnswerNotKeptError(error.message) from error
        if reference is not None and not await self._record(provider_name, attempt_id, reference):
            # A duplicate of this call was quicker, and its attempt has ended: nobody fetches this answer.
            await adapter_calls.settled(provider, reference)

    async def take_file(self, provider_name: str, file: SentFile) -> str:
        """Store a file that comes before the answer which names it; returns the last part of its URL.

        Raises:
            ProviderNotFoundError: There is no such provider, or it never calls back.
            CallbackRefusedInRequestError: The key does not match, or the attempt has ended.
            AnswerNotKeptError: It must be sent again.
        """
        provider = self._caller(provider_name)
        if not await signing_keys.expects_answer(self._db, file.attempt_id, provider_name):
            raise CallbackRefusedInRequestError(f"{provider_name} has no such attempt, or it has ended")
        try:
            return await provider.take_file(file)
        except CallbackRefusedError as error:
            raise CallbackRefusedInRequestError(str(error)) from error
        except AnswerLostError as error:
            raise AnswerNotKeptError(error.message) from error

    def _caller(self, name: str) -> MediaGeneratorModel:
        provider = self._registry.providers.get(name)
        if provider is None or not provider.capabilities.webhook:
            raise ProviderNotFoundError(f"there is no provider {name!r} that calls back")
        return provider

    async def _check_secret(self, provider_name: str, attempt_id: UUID, secret: str) -> None:
        keys = await self._cached_keys(key_name(provider_name))
        if not any(hmac.compare_digest(secret_part(key, attempt_id).encode(), secret.encode()) for key in keys):
            if not keys:
                # There is none before the first submission, which may happen at any time.
                self._keys.pop(key_name(provider_name), None)
            raise CallbackRefusedInRequestError(f"this is no callback URL of {provider_name}")

    async def _record(self, provider_name: str, attempt_id: UUID, reference: Reference | None) -> bool:
        """Record the callback and notify the worker; False: the attempt has ended."""
        row = await transitions.record_callback(self._db, attempt_id, provider_name)
        if row is None:
            log.info("callback_too_late", provider=provider_name, attempt_id=str(attempt_id))
            return False
        if row.unbound and reference is not None:
            await self._bind(attempt_id, reference)
        self._channel.publish([Change(row.media_id, row.owner_id)])
        return True

    async def _verified(self, provider: MediaGeneratorModel, callback: Callback) -> Reference | None:
        keys = await self._cached_keys(provider.name)
        try:
            return provider.read_callback(callback, keys)
        except CallbackRefusedError as error:
            log.warning("callback_refused", provider=provider.name, error=str(error))
            await signing_keys.invalidate_keys(self._db, provider.name)
            self._keys.pop(provider.name, None)
            message = f"this is no callback of {provider.name}: its signature or its time is wrong"
            raise CallbackRefusedInRequestError(message) from error

    async def _cached_keys(self, provider: str) -> list[str]:
        cached = self._keys.get(provider)
        if cached is None or cached.until < monotonic():
            found = await signing_keys.keys_of(self._db, provider)
            learn(found)
            cached = self._keys[provider] = _Keys(found, monotonic() + KEYS_SECONDS)
        return cached.found

    async def _bind(self, attempt_id: UUID, reference: Reference) -> None:
        (recorded,) = await record_purchases.many(self._db, [Purchase.of(attempt_id, reference)])
        if recorded is PurchaseRecord.RECORDED:
            log.info("purchase_bound_by_callback", external_id=reference.external_id)
            await transitions.expedite(self._db, attempt_id)
            await transitions.mark_charged(self._db, attempt_id)
        elif recorded is PurchaseRecord.TAKEN:
            log.warning("callback_names_purchase_of_another_attempt", external_id=reference.external_id)
