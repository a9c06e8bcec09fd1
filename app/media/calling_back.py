"""A provider calls back.

Crosses network and database:

1. The signature is checked, with keys that a worker has fetched. What does not fit is refused, and changes nothing.
2. The call is noted at its attempt: **the commit point**. From here on the worker that has the job hears of it within
   CLAIM_INTERVAL_SECONDS, whatever dies; calling again changes nothing.
3. A purchase whose answer was lost is bound to its attempt.
4. The worker is told over Redis, and asks the provider at once.
"""

from dataclasses import dataclass
from time import monotonic
from typing import Final

import msgspec
import structlog

from app.core.connections import Change, Connections
from app.core.news import News
from app.core.storable import storable
from app.media import callback_notes as callbacks
from app.media import transitions
from app.media.commands import Purchase
from app.media.errors import CallbackRefusedInRequestError, ProviderNotFoundError
from app.media_generator.callbacks import Callback, CallbackRefusedError
from app.media_generator.media_generator_model import MediaGeneratorModel, Reference
from app.media_generator.registry import Registry

KEYS_SECONDS: Final = 60.0
"""How long this process believes keys that it has read."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Keys:
    found: list[str]
    until: float


class Callbacks:
    """Takes callbacks; one for each process of the API."""

    def __init__(self, hot: Connections, registry: Registry, news: News) -> None:
        self._hot = hot
        self._registry = registry
        self._news = news
        self._keys = dict[str, _Keys]()

    async def take(self, provider_name: str, callback: Callback) -> None:
        """Note a callback and wake whoever waits for it; one for an attempt that is over changes nothing.

        Raises:
            ProviderNotFoundError: There is no such provider, or it never calls back.
            CallbackRefusedInRequestError: It does not come from the provider, or is not fresh.
        """
        provider = self._registry.providers.get(provider_name)
        if provider is None or not provider.capabilities.webhook:
            raise ProviderNotFoundError(f"there is no provider {provider_name!r} that calls back")
        reference = await self._checked(provider, callback)
        row = await callbacks.note(self._hot, callback.attempt_id, provider_name)
        if row is None:
            log.info("callback_too_late", provider=provider_name, attempt_id=str(callback.attempt_id))
            return
        if row["unbound"] and reference is not None:
            await self._bind(callback, reference)
        self._news.tell([Change(row["media_id"], row["owner_id"])])

    async def _checked(self, provider: MediaGeneratorModel, callback: Callback) -> Reference | None:
        keys = await self._keys_of(provider.name)
        try:
            return provider.read_callback(callback, keys)
        except CallbackRefusedError as error:
            log.warning("callback_refused", provider=provider.name, error=str(error))
            await callbacks.doubt(self._hot, provider.name)
            self._keys.pop(provider.name, None)
            message = f"this is no callback of {provider.name}: its signature or its time does not fit"
            raise CallbackRefusedInRequestError(message) from error

    async def _keys_of(self, provider: str) -> list[str]:
        known = self._keys.get(provider)
        if known is None or known.until < monotonic():
            found = await callbacks.keys(self._hot, provider)
            known = self._keys[provider] = _Keys(found, monotonic() + KEYS_SECONDS)
        return known.found

    async def _bind(self, callback: Callback, reference: Reference) -> None:
        clean: dict[str, str] = storable(msgspec.to_builtins(reference))
        stored = msgspec.json.encode(clean).decode()
        purchase = Purchase(callback.attempt_id, clean["external_id"], stored)
        if any(await transitions.record_purchases(self._hot, [purchase])):
            log.info("purchase_bound_by_callback", external_id=reference.external_id)
