"""A provider calls back.

Crosses network and database:

1. The signature is checked, with keys that a worker has fetched. What does not fit is refused, and changes nothing.
2. The call is noted at its attempt: **the commit point**. From here on the worker that has the job hears of it within
   CLAIM_INTERVAL_SECONDS, whatever dies; calling again changes nothing.
3. A purchase whose answer was lost, or of which everybody had said that there is none, is bound to its attempt.
4. The worker is told over Redis, and asks the provider at once.

A provider that cannot be asked afterwards calls with the answer itself, at an address that only it was told. That
answer goes into the vault before step 2, where the worker finds it when it asks. A crash in between leaves it there:
the provider has no answer to its call and calls again, and the next poll finds it without any call.
"""

import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import monotonic
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
import structlog

from app.core.change_channel import ChangeChannel
from app.core.database.pool import Change, DatabasePool
from app.core.database.text import storable
from app.jobs.callbacks import signing_keys as callbacks
from app.jobs.callbacks.errors import AnswerNotKeptError, CallbackRefusedInRequestError, ProviderNotFoundError
from app.jobs.callbacks.urls import key_name, secret_part
from app.jobs.transitions import transitions
from app.jobs.transitions.commands import Purchase
from app.media_generator import adapter_calls
from app.media_generator.callbacks import Callback, CallbackRefusedError, SentFile
from app.media_generator.errors import AnswerLostError
from app.media_generator.media_generator_model import MediaGeneratorModel, Reference
from app.media_generator.registry import Registry

KEYS_SECONDS: Final = 60.0
"""How long this process believes keys that it has read."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Keys:
    found: list[str]
    until: float


class CallbackReceiver:
    """Takes callbacks; one for each process of the API."""

    def __init__(self, db: DatabasePool, registry: Registry, news: ChangeChannel) -> None:
        self._db = db
        self._registry = registry
        self._news = news
        self._keys = dict[str, _Keys]()

    async def take(self, provider_name: str, callback: Callback) -> None:
        """Note a callback and wake whoever waits for it; where the purchase is known to be over, nothing changes.

        Raises:
            ProviderNotFoundError: There is no such provider, or it never calls back.
            CallbackRefusedInRequestError: It does not come from the provider, or is not fresh.
        """
        provider = self._caller(provider_name)
        await self._ring(provider_name, callback.attempt_id, await self._checked(provider, callback))

    async def take_answer(
        self, provider_name: str, attempt_id: UUID, secret: str, chunks: AsyncIterator[bytes]
    ) -> None:
        """Keep an answer that comes as a callback, and wake whoever waits for it; nothing is kept for what is over.

        Args:
            provider_name: Who calls.
            attempt_id: For which attempt.
            secret: The rest of the address.
            chunks: The body, which is not read before all of this fits.

        Raises:
            ProviderNotFoundError: There is no such provider, or its callbacks bring no answers.
            CallbackRefusedInRequestError: That is no address that we have told.
            AnswerNotKeptError: Call again.
        """
        provider = self._caller(provider_name)
        if not provider.capabilities.webhook_brings_answer:
            raise ProviderNotFoundError(f"callbacks of {provider_name!r} bring no answers: they only ring")
        keys = await self._keys_of(key_name(provider_name))
        if not any(hmac.compare_digest(secret_part(key, attempt_id).encode(), secret.encode()) for key in keys):
            if not keys:
                # There is none before the first purchase, which may be made at any time.
                self._keys.pop(key_name(provider_name), None)
            raise CallbackRefusedInRequestError(f"this is no address that {provider_name} was told")
        if not await callbacks.awaited(self._db, attempt_id, provider_name):
            log.info("callback_too_late", provider=provider_name, attempt_id=str(attempt_id))
            return
        try:
            reference = await provider.take_answer(attempt_id, chunks)
        except AnswerLostError as error:
            raise AnswerNotKeptError(error.message) from error
        if reference is not None and not await self._ring(provider_name, attempt_id, reference):
            # Its twin was quicker, and is settled by now: nobody comes for this one.
            await adapter_calls.settled(provider, reference)

    async def take_file(self, provider_name: str, file: SentFile) -> str:
        """Keep a file that comes before the answer which names it; the last part of its URL.

        Raises:
            ProviderNotFoundError: There is no such provider, or it never calls back.
            CallbackRefusedInRequestError: The key does not fit, or nobody waits for anything of that attempt.
            AnswerNotKeptError: Send it again.
        """
        provider = self._caller(provider_name)
        if not await callbacks.awaited(self._db, file.attempt_id, provider_name):
            raise CallbackRefusedInRequestError(f"{provider_name} has no such attempt, or it is over")
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

    async def _ring(self, provider_name: str, attempt_id: UUID, reference: Reference | None) -> bool:
        """Wake whoever waits for it; False: nobody does any more."""
        row = await callbacks.note(self._db, attempt_id, provider_name)
        if row is None:
            log.info("callback_too_late", provider=provider_name, attempt_id=str(attempt_id))
            return False
        if row["unbound"] and reference is not None:
            await self._bind(attempt_id, reference)
        self._news.tell([Change(row["media_id"], row["owner_id"])])
        return True

    async def _checked(self, provider: MediaGeneratorModel, callback: Callback) -> Reference | None:
        keys = await self._keys_of(provider.name)
        try:
            return provider.read_callback(callback, keys)
        except CallbackRefusedError as error:
            log.warning("callback_refused", provider=provider.name, error=str(error))
            await callbacks.doubt(self._db, provider.name)
            self._keys.pop(provider.name, None)
            message = f"this is no callback of {provider.name}: its signature or its time does not fit"
            raise CallbackRefusedInRequestError(message) from error

    async def _keys_of(self, provider: str) -> list[str]:
        known = self._keys.get(provider)
        if known is None or known.until < monotonic():
            found = await callbacks.keys(self._db, provider)
            known = self._keys[provider] = _Keys(found, monotonic() + KEYS_SECONDS)
        return known.found

    async def _bind(self, attempt_id: UUID, reference: Reference) -> None:
        clean: dict[str, str] = storable(msgspec.to_builtins(reference))
        stored = msgspec.json.encode(clean).decode()
        purchase = Purchase(attempt_id, clean["external_id"], stored)
        try:
            recorded = await transitions.record_purchases(self._db, [purchase])
        except asyncpg.UniqueViolationError:
            # Another try was begun in this very moment; the second time it is seen.
            recorded = await transitions.record_purchases(self._db, [purchase])
        if any(recorded):
            log.info("purchase_bound_by_callback", external_id=reference.external_id)
            await callbacks.hasten(self._db, attempt_id)
            await callbacks.own_up(self._db, attempt_id)
