"""The worker's side of callbacks: polls providers that have called back, and fetches the keys of their signatures.

The API records a callback at its attempt and publishes it over Redis. The message may be lost, so each worker also
reads the records of the jobs it holds. In either case the provider is polled: nothing in a callback is believed, except
the purchase that it names.
"""

import asyncio
from collections.abc import Callable, Collection
from uuid import UUID

import structlog

from app.core.change_channel import ChangeChannel
from app.core.database.pool import Change, DatabasePool
from app.jobs.callbacks import signing_keys
from app.jobs.policies import JobPolicy
from app.jobs.transitions import callback
from app.media_generator import adapter_calls
from app.media_generator.registry import Registry

log = structlog.get_logger(__name__)


class CallbackListener:
    """Of one worker process."""

    def __init__(self, db: DatabasePool, registry: Registry, channel: ChangeChannel, policy: JobPolicy) -> None:
        """Prepare; nothing runs yet.

        Args:
            db: The database.
            registry: The providers.
            channel: On which the API publishes callbacks.
            policy: It says which providers can call back.
        """
        self._db = db
        self._channel = channel
        callers = [
            provider for provider in registry.providers.values() if policy.callback_base_of(provider) is not None
        ]
        self._signing = [provider for provider in callers if not provider.capabilities.webhook_brings_answer]
        self._active = bool(callers)

    async def listen(self, on_callback: Callable[[Collection[UUID]], None]) -> None:
        """Pass on the media whose providers call back, forever."""
        if not self._active:
            await asyncio.Event().wait()

        def pass_on(changes: Collection[Change]) -> None:
            on_callback([change.media_id for change in changes])

        await self._channel.subscribe(pass_on)

    async def take_callbacks(self, worker_id: UUID) -> list[UUID]:
        """The media held by a worker whose providers have called back since the last time."""
        return await callback.take_callbacks(self._db, worker_id) if self._active else []

    async def fetch_keys(self) -> None:
        """Fetch the keys of providers where they are old, or invalidated."""
        if not self._signing:
            return
        fresh = await signing_keys.providers_with_fresh_keys(self._db)
        for provider in self._signing:
            if provider.name not in fresh and (found := await adapter_calls.callback_keys(provider)) is not None:
                await signing_keys.store_keys(self._db, provider.name, found)
                log.info("callback_keys_fetched", provider=provider.name, keys=len(found))
