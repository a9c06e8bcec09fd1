"""The vault: what a provider answered, stored as it came before anybody reads it; it has been paid for.

It lies in the bucket below `answers/`, apart from media, until its purchase is settled.
"""

from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from app.storage.store import ObjectNotFoundError, Store, StoreError

PREFIX: Final = "answers"
_MEDIA_TYPE: Final = "application/octet-stream"


class StoredRawAnswers:
    """The vault of a process that works on jobs; see `RawAnswers` of the providers."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def keep(self, attempt_id: UUID, chunks: AsyncIterator[bytes], part: str = "") -> str:
        """See `RawAnswers.keep`; the same part of an attempt goes to the same place."""
        # No slash: where a store keeps files in folders, nothing can be both.
        name = f"{_name(attempt_id)}.{part}" if part else _name(attempt_id)
        source = _Source(chunks)
        with _as_os_error():
            try:
                await self._store.put(name, source.pass_on(), _MEDIA_TYPE)
            except Exception:
                if source.error is not None:
                    raise source.error from None
                raise
        return name

    async def find(self, attempt_id: UUID) -> str | None:
        """See `RawAnswers.find`."""
        name = _name(attempt_id)
        with _as_os_error():
            try:
                await anext(self._store.get(name), None)
            except ObjectNotFoundError:
                return None
        return name

    async def open(self, name: str) -> AsyncIterator[bytes]:
        """See `RawAnswers.open`."""
        with _as_os_error():
            async for chunk in self._store.get(name):
                yield chunk

    async def drop(self, name: str) -> None:
        """See `RawAnswers.drop`."""
        with _as_os_error():
            await self._store.delete(name)


def _name(attempt_id: UUID) -> str:
    return f"{PREFIX}/{attempt_id}"


class _Source:
    """Remembers why the chunks ended too early: a store's client may wrap that in errors of its own."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.error: Exception | None = None

    async def pass_on(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._chunks:
                yield chunk
        except Exception as error:
            self.error = error
            raise


@contextmanager
def _as_os_error() -> Generator[None]:
    """What is said of a store in words that adapters know."""
    try:
        yield
    except ObjectNotFoundError as error:
        raise FileNotFoundError(str(error)) from error
    except StoreError as error:
        raise OSError(str(error)) from error
