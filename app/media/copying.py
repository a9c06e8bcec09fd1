"""One output on its way from the provider into our store, chunk by chunk.

1. The first bytes tell type and pixel size; what we do not take ends here, nothing is written.
2. The stream passes through sha256 and the size limit into the store.
3. The last bytes tell whether all of it came; if not, the writing is undone.
The object is written before the database knows of it: a crash in between leaves an object under a key
that the next worker writes again.
"""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from uuid import UUID

import structlog

from app.core.ids import new_id
from app.core.inspection import HEAD_BYTES, TAIL_BYTES, Kind, NotMediaError, inspect, is_whole
from app.media.commands import StoredFile
from app.media_generator.errors import OutputError, ProviderError
from app.media_generator.media_generator_model import MediaGeneratorModel, Output
from app.storage.store import Store

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What is accepted from a provider."""

    max_bytes: int
    max_pixels: int


@dataclass(frozen=True, slots=True)
class Place:
    """Whose output it is."""

    media_id: UUID
    created_at: datetime
    index: int

    def key(self, extension: str) -> str:
        """Where it lies in the bucket."""
        return f"media/{self.created_at:%Y/%m}/{self.media_id}/{self.index}.{extension}"


async def copy_output(
    provider: MediaGeneratorModel, output: Output, store: Store, place: Place, limits: Limits
) -> StoredFile:
    """Copy one output into the store.

    Raises:
        OutputError: The provider's bytes are not what we take, or not all of them.
        NotReachedError, BusyError: The provider does not answer now.
        StoreUnavailableError: The store does not.
    """
    async with aclosing(_opened(provider, output)) as chunks:
        head = [chunk async for chunk in _first(chunks, HEAD_BYTES)]
        beginning = b"".join(head)
        kind = _inspect(beginning, limits)
        through = _Passage(kind, beginning[:HEAD_BYTES], limits.max_bytes)
        key = place.key(kind.extension)
        await store.put(key, through.carry(head, chunks), kind.media_type)
    return StoredFile(
        id=new_id(),
        index=place.index,
        key=key,
        media_type=kind.media_type,
        bytes=through.size,
        width=kind.width,
        height=kind.height,
        sha256=through.digest.hexdigest(),
    )


async def _opened(provider: MediaGeneratorModel, output: Output) -> AsyncGenerator[bytes]:
    """The provider's bytes; a generator, so that it can be closed half-way, whatever a plug-in hands out."""
    try:
        async for chunk in provider.open(output):
            yield chunk
    except ProviderError:
        raise
    except Exception as error:
        log.exception("provider_defect", provider=provider.name)
        raise OutputError(f"the adapter of {provider.name} failed: {type(error).__name__}") from error


async def _first(chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk
        size -= len(chunk)
        if size <= 0:
            return


def _inspect(head: bytes, limits: Limits) -> Kind:
    try:
        kind = inspect(head)
    except NotMediaError as error:
        raise OutputError(f"the provider's result cannot be used: {error}") from error
    if kind.width and kind.height and kind.width * kind.height > limits.max_pixels:
        raise OutputError(f"the provider's picture is {kind.width}x{kind.height}, more than {limits.max_pixels} pixels")
    return kind


class _Passage:
    """Counts, hashes and checks what passes through."""

    def __init__(self, kind: Kind, head: bytes, max_bytes: int) -> None:
        self._kind = kind
        self._head = head
        self._max_bytes = max_bytes
        self.size = 0
        self.digest = hashlib.sha256()

    async def carry(self, head: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        tail = b""
        for chunk in chain(head):
            tail = self._pass(chunk, tail)
            yield chunk
        async for chunk in rest:
            tail = self._pass(chunk, tail)
            yield chunk
        if not is_whole(self._kind, self._head, tail, self.size):
            raise OutputError(f"the provider's {self._kind.media_type} is cut off after {self.size} bytes")

    def _pass(self, chunk: bytes, tail: bytes) -> bytes:
        self.size += len(chunk)
        if self.size > self._max_bytes:
            raise OutputError(f"the provider's result is larger than {self._max_bytes} bytes")
        self.digest.update(chunk)
        return (tail + chunk)[-TAIL_BYTES:] if len(chunk) < TAIL_BYTES else chunk[-TAIL_BYTES:]
