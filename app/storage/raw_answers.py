"""Raw answers: what a blocking provider answered, stored byte for byte before it is parsed, because it was paid for.

Objects are below `answers/` in the bucket, apart from media: until the attempt's result is stored, or for good where it
could not be.
"""

from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from app.storage.store import ObjectNotFoundError, Store, StoreError

PREFIX: Final = "answers"
_MEDIA_TYPE: Final = "application/octet-stream"


class StoredRawAnswers:
    """Implements `RawAnswers`, the providers' port, on the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def keep(self, attempt_id: UUID, chunks: AsyncIterator[bytes], part: str = "") -> str:
        """See `RawAnswers.keep`; the same part of an attempt has the same key."""
        # No slash: stores on a file system cannot have a file and a folder of the same name.
        name = f"{_name(attempt_id)}.{part}" if part else _name(attempt_id)
        source = _Source(chunks)
        with _as_os_error():
            try:
                await self._store.put(name, source.chunks(), _MEDIA_TYPE)
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
    """Keeps the error of the chunks: the store's client may wrap it in its own."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.error: Exception | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._chunks:
                yield chunk
        except Exception as error:
            self.error = error
            raise


@contextmanager
def _as_os_error() -> Generator[None]:
    """Translate the store's errors into those of `RawAnswers`."""
    try:
        yield
    except ObjectNotFoundError as error:
        raise FileNotFoundError(str(error)) from error
    except StoreError as error:
        raise OSError(str(error)) from error
