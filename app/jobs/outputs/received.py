"""The bytes of one output as they arrive: counted, hashed, and limited in size and slowness."""

import hashlib
from collections.abc import AsyncIterator, Collection
from time import monotonic
from typing import Final

from app.jobs.policies import OutputLimits
from app.media_generator.errors import (
    NotReachedError,
    OutputError,
    ProviderError,
    SuspectOutputError,
    UnconfirmedOutputError,
)

WINDOW: Final = 20.0
"""Seconds of waiting for the provider over which the speed is averaged."""


class ReceivedOutput:
    """One fetch of an output."""

    def __init__(self, source: AsyncIterator[bytes], limits: OutputLimits, seen: Collection[str]) -> None:
        """See `ReceivedOutput`.

        Args:
            source: Its bytes.
            limits: Of size and speed.
            seen: The hashes of earlier fetches that seemed damaged.
        """
        self._source = source
        self._limits = limits
        self._seen = seen
        self._head = list[bytes]()
        self._broken: ProviderError | None = None
        """What broke it off within the first bytes."""
        self._digest = hashlib.sha256()
        self._waited = 0.0
        self._since = 0
        """Bytes within the present window."""
        self.size = 0
        """Bytes so far."""

    @property
    def sha256(self) -> str:
        """Of all bytes so far, in hex."""
        return self._digest.hexdigest()

    async def beginning(self, size: int) -> bytes:
        """The first bytes, `size` or more unless it is shorter; they stay part of `chunks`, as does what ended them."""
        try:
            while self.size < size and (chunk := await self._next()) is not None:
                self._head.append(chunk)
        except (NotReachedError, SuspectOutputError) as error:
            if not self._head:
                raise
            self._broken = error
        return b"".join(self._head)

    async def chunks(self) -> AsyncIterator[bytes]:
        """All bytes, once."""
        self._head.reverse()
        while self._head:
            yield self._head.pop()
        if self._broken is not None:
            raise self._broken
        while (chunk := await self._next()) is not None:
            yield chunk

    async def _next(self) -> bytes | None:
        """The next chunk; None after the last one.

        Raises:
            NotReachedError: It is too slow.
            OutputError: It is too large, or damaged.
        """
        started = monotonic()
        try:
            chunk = await anext(self._source, None)
        except UnconfirmedOutputError:
            if self.sha256 in self._seen:
                return None
            raise
        if chunk is None:
            return None
        if self.size:
            self._measure(monotonic() - started, len(chunk))
        self._digest.update(chunk)
        self.size += len(chunk)
        if self.size > self._limits.max_bytes:
            raise OutputError(f"the provider's result is larger than {self._limits.max_bytes} bytes")
        return chunk

    def _measure(self, seconds: float, size: int) -> None:
        """Only waiting for the provider counts, from its first chunk on: our own store may be slow."""
        self._waited += seconds
        self._since += size
        if self._waited < WINDOW:
            return
        if self._since < self._limits.lowest_speed * self._waited:
            raise NotReachedError(f"the provider sent {self._since} bytes in {self._waited:.0f} seconds")
        self._waited, self._since = 0.0, 0
