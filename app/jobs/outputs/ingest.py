"""One output on its way from the provider into our store, chunk by chunk.

1. The first bytes show type and pixel size; what is not accepted ends here, nothing is written.
2. The stream passes through sha256 and the size limit into the store.
3. The last bytes show whether it is complete; if not, the write is undone.
4. Video and sound are probed (`probe.py`), if possible.
The object is written before its row in the database: a crash in between leaves an object under a key that the next
worker writes again.
"""

import asyncio
import codecs
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Final
from uuid import UUID

import structlog

from app.core.file_types import HEAD_BYTES, EndDetector, Kind, NotMediaError, inspect
from app.core.ids import new_id
from app.core.telemetry import tracing
from app.jobs.outputs.probe import OutputProbe
from app.jobs.policies import OutputLimits
from app.jobs.transitions.completion import StoredFile
from app.media_generator import adapter_calls
from app.media_generator.errors import BusyError, GenerationFailedError, NotReachedError, OutputError
from app.media_generator.media_generator_model import MediaGeneratorModel, Output
from app.storage.store import Store, StoreError

log = structlog.get_logger(__name__)


COPIES_AT_ONCE: Final = 16
"""Outputs that one process copies at the same time; bounds its memory."""
LONGEST_COPY: Final = 1_800.0
"""Seconds for one output: a slow one must not hold up others forever."""


class CopyDelayedError(Exception):
    """Provider or store are unavailable now; nothing is lost by trying again later."""


@dataclass(frozen=True, slots=True)
class ObjectKeys:
    """The keys in the bucket of the outputs of one attempt."""

    media_id: UUID
    created_at: datetime
    attempt: int
    """The attempt's number: two purchases of one media never share a key."""

    def key(self, index: int, extension: str) -> str:
        """The key of an output."""
        again = f"-try{self.attempt}" if self.attempt > 1 else ""
        return f"media/{self.created_at:%Y/%m}/{self.media_id}/{index}{again}.{extension}"


@dataclass(frozen=True, slots=True)
class OutputTarget:
    """What one output is stored as."""

    keys: ObjectKeys
    index: int
    types: tuple[str, ...] = ()
    """What it may be besides picture, video and sound."""

    def key(self, extension: str) -> str:
        """Its key in the bucket."""
        return self.keys.key(self.index, extension)


class OutputIngest:
    """Copies the outputs of one media after the other; one object for all jobs of a process."""

    def __init__(self, store: Store, limits: OutputLimits) -> None:
        self._store = store
        self._limits = limits
        self._prober = OutputProbe(store, limits.max_pixels)
        self._slots = asyncio.Semaphore(COPIES_AT_ONCE)

    async def copy_all(
        self, provider: MediaGeneratorModel, outputs: Sequence[Output], keys: ObjectKeys, types: Sequence[str] = ()
    ) -> tuple[StoredFile, ...]:
        """Copy every output of a media item.

        Args:
            provider: The one that made them.
            outputs: As the provider names them.
            keys: Where they are stored.
            types: What the model's card declares; text is accepted only then.

        Raises:
            GenerationFailedError: There is no output.
            OutputError: The provider's bytes are not accepted, or not complete.
            CopyDelayedError: Provider or store are unavailable now.
        """
        if not outputs:
            raise GenerationFailedError(f"{provider.name} finished without a result")
        files: list[StoredFile] = []
        for index, output in enumerate(outputs):
            try:
                async with self._slots, asyncio.timeout(LONGEST_COPY):
                    with tracing.span("store output", index=index):
                        target = OutputTarget(keys, index, tuple(types))
                        file = await copy_output(provider, output, self._store, target, self._limits)
            except (StoreError, NotReachedError, BusyError, TimeoutError) as error:
                log.warning("copy_delayed", index=index, error=repr(error))
                raise CopyDelayedError from error
            log.info("output_stored", index=index, key=file.key, bytes=file.bytes, media_type=file.media_type)
            files.append(await self._prober.probe(file))
        return tuple(files)


async def copy_output(
    provider: MediaGeneratorModel, output: Output, store: Store, target: OutputTarget, limits: OutputLimits
) -> StoredFile:
    """Copy one output into the store.

    Raises:
        OutputError: The provider's bytes are not accepted, or not complete.
        NotReachedError, BusyError: The provider does not answer now.
        StoreUnavailableError: The store does not.
    """
    async with aclosing(adapter_calls.chunks(provider, output)) as chunks:
        head = [chunk async for chunk in _first(chunks, HEAD_BYTES)]
        beginning = b"".join(head)
        kind = _inspect(beginning, target.types, limits)
        stream = _CheckedStream(kind, beginning, limits.max_bytes)
        key = target.key(kind.extension)
        await store.put(key, stream.chunks(head, chunks), kind.content_type)
    return StoredFile(
        id=new_id(),
        index=target.index,
        key=key,
        media_type=kind.media_type,
        bytes=stream.size,
        width=kind.width,
        height=kind.height,
        sha256=stream.digest.hexdigest(),
    )


async def _first(chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk
        size -= len(chunk)
        if size <= 0:
            return


def _inspect(head: bytes, types: Sequence[str], limits: OutputLimits) -> Kind:
    try:
        kind = inspect(head[:HEAD_BYTES], types)
    except NotMediaError as error:
        raise OutputError(f"the provider's result cannot be used: {error}") from error
    if kind.width and kind.height and kind.width * kind.height > limits.max_pixels:
        raise OutputError(f"the provider's picture is {kind.width}x{kind.height}, more than {limits.max_pixels} pixels")
    return kind


class _CheckedStream:
    """Counts, hashes and checks the bytes that pass through."""

    def __init__(self, kind: Kind, head: bytes, max_bytes: int) -> None:
        self._kind = kind
        self._max_bytes = max_bytes
        self._ending = EndDetector(kind, head)
        self.digest = hashlib.sha256()
        self._text = codecs.getincrementaldecoder("utf-8")() if kind.is_text else None

    async def chunks(self, head: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        for chunk in chain(head):
            self._check(chunk)
            yield chunk
        async for chunk in rest:
            self._check(chunk)
            yield chunk
        if not self._ending.is_complete:
            raise OutputError(f"the provider's {self._kind.media_type} is cut off after {self.size} bytes")

    @property
    def size(self) -> int:
        return self._ending.size

    def _check(self, chunk: bytes) -> None:
        self._ending.feed(chunk)
        if self.size > self._max_bytes:
            raise OutputError(f"the provider's result is larger than {self._max_bytes} bytes")
        self.digest.update(chunk)
        if self._text is not None:
            try:
                self._text.decode(chunk)
            except UnicodeDecodeError as error:
                raise OutputError("the provider's result begins as text and is not text throughout") from error
