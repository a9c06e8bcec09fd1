"""The vault: what a provider answered, stored as it came before anybody reads it; it has been paid for.

It lies in the bucket below `answers/`, apart from media, until its purchase is settled.
"""

from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID

from app.storage.store import Store

PREFIX: Final = "answers"
_MEDIA_TYPE: Final = "application/octet-stream"


class StoredVault:
    """The vault of a process that works on jobs; see `Vault` of the providers."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def keep(self, attempt_id: UUID, chunks: AsyncIterator[bytes]) -> str:
        """See `Vault.keep`; the same attempt writes to the same place."""
        name = f"{PREFIX}/{attempt_id}"
        await self._store.put(name, chunks, _MEDIA_TYPE)
        return name

    def open(self, name: str) -> AsyncIterator[bytes]:
        """See `Vault.open`."""
        return self._store.get(name)

    async def drop(self, name: str) -> None:
        """See `Vault.drop`."""
        await self._store.delete(name)
