"""The worker's side of callbacks: hears whose provider has called back, and fetches what signatures are checked with.

The API notes a callback at its attempt and tells of it over Redis. That may be lost, so each worker also looks at the
notes of what it has in hand. In either case the provider is asked: nothing that a callback says is believed, but the
purchase that it names.
"""

import asyncio
from collections.abc import Callable, Collection
from uuid import UUID

import structlog

from app.core.change_channel import ChangeChannel
from app.core.database.pool import Change, DatabasePool
from app.jobs.callbacks import signing_keys as callbacks
from app.jobs.policies import JobPolicy
from app.media_generator import adapter_calls
from app.media_generator.registry import Registry

log = structlog.get_logger(__name__)


class CallbackListener:
    """Of one worker process."""

    def __init__(self, db: DatabasePool, registry: Registry, news: ChangeChannel, rules: JobPolicy) -> None:
        """Prepare; nothing runs yet.

        Args:
            db: The database.
            registry: The providers.
            news: Over which the API tells of callbacks.
            rules: They say who can call back.
        """
        self._db = db
        self._news = news
        callers = [provider for provider in registry.providers.values() if rules.callback_base_of(provider) is not None]
        self._signing = [provider for provider in callers if not provider.capabilities.webhook_brings_answer]
        self._active = bool(callers)

    async def listen(self, heard: Callable[[Collection[UUID]], None]) -> None:
        """Hand on the media whose providers call back, forever."""
        if not self._active:
            await asyncio.Event().wait()

        def pass_on(changes: Collection[Change]) -> None:
            heard([change.media_id for change in changes])

        await self._news.listen(pass_on)

    async def unheard(self, worker_id: UUID) -> list[UUID]:
        """The media in a worker's hands whose providers have called since it was asked last."""
        return await callbacks.unheard(self._db, worker_id) if self._active else []

    async def fetch_keys(self) -> None:
        """Fetch the keys of providers where they are old, or in doubt."""
        if not self._signing:
            return
        fresh = await callbacks.fresh(self._db)
        for provider in self._signing:
            if provider.name not in fresh and (found := await adapter_calls.callback_keys(provider)) is not None:
                await callbacks.store_keys(self._db, provider.name, found)
                log.info("callback_keys_fetched", provider=provider.name, keys=len(found))
