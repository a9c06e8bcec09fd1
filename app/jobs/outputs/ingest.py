"""One output on its way from the provider into our store, chunk by chunk.

1. A place: how many are copied at the same time, and in which order (`places.py`).
2. The first bytes show type and pixel size; what is not accepted ends here, nothing is written.
3. The stream passes through sha256 and the limits of size and speed (`received.py`), gets its mark of origin
   (`marks.py`), and goes into the store.
4. The last bytes show whether it is complete; if not, the write is undone.
5. Video and sound are probed (`probe.py`), if possible.
What may have been damaged on its way is fetched again at once, and then later. Only a file that arrived complete and is
cut off in itself, twice with the same bytes, is what the provider has.
The object is written before its row in the database: a crash in between leaves an object under a key that the next
worker writes again.
"""

import asyncio
import codecs
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from app.core.file_types import HEAD_BYTES, EndDetector, Kind, NotMediaError, inspect
from app.core.ids import new_id
from app.core.telemetry import tracing
from app.jobs.outputs.marks import MarkedOutput, mark_of
from app.jobs.outputs.places import FairPlaces, Party
from app.jobs.outputs.probe import OutputProbe
from app.jobs.outputs.received import ReceivedOutput
from app.jobs.policies import OutputLimits
from app.jobs.transitions.completion import StoredFile
from app.media_generator import adapter_calls
from app.media_generator.errors import (
    BusyError,
    NotReachedError,
    OutputError,
    ProviderError,
    SuspectOutputError,
)
from app.media_generator.media_generator_model import Output
from app.media_generator.registry import Offer
from app.provenance.mark import Mark
from app.storage.store import Store, StoreError

log = structlog.get_logger(__name__)

HTML: Final = "text/html"
_HTML_PAGE: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE)
SECOND_FETCH: Final = 0.5
"""Seconds until an output that seems damaged is fetched once more, to compare."""


class CopyDelayedError(Exception):
    """Provider or store are unavailable now, or an output seems damaged; nothing is lost by trying again later."""

    def __init__(self, suspect: SuspectOutputError | None = None) -> None:
        super().__init__()
        self.suspect = suspect
        """What is wrong with what arrived; None: nothing that could be judged has arrived."""


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
    mark: Mark | None = None
    """What is written into it."""

    def key(self, extension: str) -> str:
        """Its key in the bucket."""
        return self.keys.key(self.index, extension)


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """For whom outputs are copied."""

    owner_id: UUID | None
    """Whose they are, for a fair share of the places; None: nobody waits for them."""
    from_files: Callable[[], bool]
    """Whether the input named a file, from which they were made; asked for their mark of origin."""
    on_wait: Callable[[], Awaitable[None]] | None = None
    """Called where an output has to wait for others to be copied."""


class OutputIngest:
    """Copies the outputs of one media after the other; one object for all jobs of a process."""

    def __init__(self, store: Store, limits: OutputLimits, *, mark_outputs: bool) -> None:
        """See `OutputIngest`.

        Args:
            store: Where they are copied to.
            limits: What is accepted.
            mark_outputs: Whether each gets a mark of origin.
        """
        self._store = store
        self._limits = limits
        self._marks = mark_outputs
        self._prober = OutputProbe(store, limits.max_pixels)
        self._network = FairPlaces(limits.copies)
        self._here = FairPlaces(limits.copies)

    async def copy_all(
        self, offer: Offer, outputs: Sequence[Output], keys: ObjectKeys, request: CopyRequest
    ) -> tuple[StoredFile, ...]:
        """Copy every output of a media item.

        Args:
            offer: The model that made them.
            outputs: As the provider names them.
            keys: Where they are stored.
            request: For whom.

        Raises:
            OutputError: The provider's bytes are not accepted, or its stored answer has none.
            CopyDelayedError: Provider or store are unavailable now, or what arrived seems damaged.
        """
        if not outputs:
            nothing = SuspectOutputError(f"{offer.provider.name} finished without a result")
            if offer.provider.capabilities.keeps_answers:
                raise nothing
            raise CopyDelayedError(nothing)
        mark = mark_of(offer, keys.media_id, from_files=request.from_files()) if self._marks else None
        files: list[StoredFile] = []
        for index, output in enumerate(outputs):
            try:
                target = OutputTarget(keys, index, tuple(offer.card.output_types), mark)
                file = await self._copy(offer, output, target, request)
            except (StoreError, NotReachedError, BusyError, TimeoutError) as error:
                log.warning("copy_delayed", index=index, error=repr(error))
                raise CopyDelayedError from error
            log.info("output_stored", index=index, key=file.key, bytes=file.bytes, media_type=file.media_type)
            files.append(await self._prober.probe(file, mark))
        return tuple(files)

    async def _copy(self, offer: Offer, output: Output, target: OutputTarget, request: CopyRequest) -> StoredFile:
        """Copy one output; what seems damaged is fetched twice."""
        # What is computed on this machine, or lies in our own store, needs no place of the network's.
        kept = offer.provider.capabilities.keeps_answers and "://" not in output.location
        places = self._here if kept or offer.queue == "local" else self._network
        seen = set[str]()
        while True:
            try:
                # An owner's share is larger: one provider that drips must not stop what the owner has at others.
                parties = Party(offer.provider.name), Party(request.owner_id, ratio=5)
                async with places.place(*parties, on_wait=request.on_wait):
                    async with asyncio.timeout(self._limits.longest_copy):
                        with tracing.span("store output", index=target.index):
                            return await self._copy_once(offer, output, target, seen)
            except SuspectOutputError as error:
                log.warning("output_suspect", index=target.index, code=error.code, message=error.message)
                if error.received is not None and error.received in seen:
                    raise OutputError(f"{error.message}; the same bytes came twice") from error
                if seen:
                    raise CopyDelayedError(error) from error
                seen.add(error.received or "")
            await asyncio.sleep(SECOND_FETCH)

    async def _copy_once(self, offer: Offer, output: Output, target: OutputTarget, seen: Collection[str]) -> StoredFile:
        """Copy one output into the store.

        Raises:
            OutputError: The provider's bytes are not accepted, or not complete.
            NotReachedError, BusyError: The provider does not answer now, or too slowly.
            StoreUnavailableError: The store does not.
        """
        async with aclosing(adapter_calls.chunks(offer.provider, output)) as chunks:
            received = ReceivedOutput(chunks, self._limits, seen)
            head = await received.beginning(HEAD_BYTES)
            try:
                kind = _inspect(head, target.types, self._limits)
            except NotMediaError as error:
                message = f"the provider's result cannot be used: {error}"
                # An error page is the same each time, until the result is there again.
                raise SuspectOutputError(message) from error
            stream = _CheckedStream(kind, head, received)
            marking = None if target.mark is None else MarkedOutput(target.mark)
            content = stream.chunks() if marking is None else marking.chunks(stream.chunks())
            key = target.key(kind.extension)
            try:
                await self._store.put(key, content, kind.content_type)
            except StoreError:
                # The store's client may wrap the error of its source.
                if stream.error is not None:
                    raise stream.error from None
                raise
        file = StoredFile(
            id=new_id(),
            index=target.index,
            key=key,
            media_type=kind.media_type,
            bytes=received.size,
            width=kind.width,
            height=kind.height,
            sha256=received.sha256,
            source_sha256=received.sha256,
        )
        return file if marking is None else replace(file, **asdict(marking.recorded()))


def _inspect(head: bytes, types: Sequence[str], limits: OutputLimits) -> Kind:
    kind = inspect(head[:HEAD_BYTES], types)
    if kind.is_text and HTML not in types and _HTML_PAGE.match(head):
        raise NotMediaError("it is an HTML page, such as servers send in place of an answer")
    if kind.width and kind.height and kind.width * kind.height > limits.max_pixels:
        raise OutputError(f"the provider's picture is {kind.width}x{kind.height}, more than {limits.max_pixels} pixels")
    return kind


class _CheckedStream:
    """Checks the bytes that pass through for the end that their format defines."""

    def __init__(self, kind: Kind, head: bytes, received: ReceivedOutput) -> None:
        self._kind = kind
        self._received = received
        self._ending = EndDetector(kind, head)
        self._text = codecs.getincrementaldecoder("utf-8")() if kind.is_text else None
        self._fault = ""
        self.error: ProviderError | None = None
        """What ended the stream early."""

    async def chunks(self) -> AsyncIterator[bytes]:
        """All bytes; an error after the last one if they are not complete."""
        try:
            async for chunk in self._received.chunks():
                self._ending.feed(chunk)
                if self._text is not None and not self._fault:
                    self._check_text(self._text, chunk)
                yield chunk
            if not self._ending.is_complete:
                self._fault = f"the provider's {self._kind.media_type} is cut off after {self._received.size} bytes"
            if self._fault:
                raise self._received.refused(self._fault)
        except ProviderError as error:
            self.error = error
            raise

    def _check_text(self, text: codecs.IncrementalDecoder, chunk: bytes) -> None:
        try:
            text.decode(chunk)
        except UnicodeDecodeError:
            self._fault = "the provider's result begins as text and is not text throughout"
