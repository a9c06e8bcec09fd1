"""Outputs on their way from the provider into our store, chunk by chunk.

They are paid for, so what comes is stored: looking at it describes it and decides nothing.

1. A place: how many are copied at the same time, and in which order (`places.py`).
2. The first bytes show its type. Only where there is nothing of what was bought (no byte at all, an HTML page, a few
   words that a model does not make) nothing is written.
3. The stream passes through sha256 and the limits of size and speed (`received.py`), gets its mark of origin
   (`marks.py`) and, if the operator has a certificate, a signature (`signatures.py`), and goes into the store.
4. The last bytes show whether it is complete; if not, the write is undone and it is fetched again at once, and then
   later. What comes twice with the same bytes is what the provider has, and is kept with a warning.
5. What needs a decoder, such as a video's duration, is probed (`probe.py`), if possible.
One output that cannot be had does not take the others with it. The object is written before its row in the database: a
crash in between leaves an object under a key that the next worker writes again.
"""

import asyncio
import codecs
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from app.core.file_types import HEAD_BYTES, SVG, UNKNOWN, EndDetector, Kind, describe
from app.core.ids import new_id
from app.core.telemetry import tracing
from app.jobs import notices
from app.jobs.notices import Notice, WarningCode
from app.jobs.outputs.marks import MarkedOutput, mark_of
from app.jobs.outputs.places import FairPlaces, Party
from app.jobs.outputs.probe import OutputProbe
from app.jobs.outputs.received import ReceivedOutput
from app.jobs.outputs.signatures import OutputSigner
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
_WORDS: Final = frozenset({"text/plain", HTML, "application/json", "text/xml", "application/xml"})
"""What errors are written in."""
_NAMED_AS_TEXT: Final = re.compile(r"\.(?:txt|md|json|jsonl|csv|tsv|srt|vtt|xml|ya?ml|log)(?:$|[?&#])", re.IGNORECASE)
SHOWN_CHARS: Final = 200
"""Characters of a text in place of a result that its owner reads."""
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


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """For whom outputs are copied."""

    owner_id: UUID | None
    """Whose they are, for a fair share of the places; None: nobody waits for them."""
    from_files: Callable[[], bool]
    """Whether the input named a file, from which they were made; asked for their mark of origin."""
    on_wait: Callable[[], Awaitable[None]] | None = None
    """Called where an output has to wait for others to be copied."""
    last: bool = False
    """Nothing will be fetched again: what comes is kept, also half of it."""


@dataclass(frozen=True, slots=True)
class CopiedOutputs:
    """What could be kept of a result: one file or more."""

    files: tuple[StoredFile, ...]
    notices: tuple[Notice, ...] = ()
    """Why others could not."""


class OutputIngest:
    """Copies the outputs of one media after the other; one object for all jobs of a process."""

    def __init__(
        self, store: Store, limits: OutputLimits, *, mark_outputs: bool, signer: OutputSigner | None = None
    ) -> None:
        """See `OutputIngest`.

        Args:
            store: Where they are copied to.
            limits: What is accepted.
            mark_outputs: Whether each gets a mark of origin.
            signer: What signs those that get one; None: nothing.
        """
        self._store = store
        self._limits = limits
        self._marks = mark_outputs
        self._signer = signer
        self._prober = OutputProbe(store, limits.max_pixels)
        self._network = FairPlaces(limits.copies)
        self._here = FairPlaces(limits.copies)

    async def copy_all(
        self, offer: Offer, outputs: Sequence[Output], keys: ObjectKeys, request: CopyRequest
    ) -> CopiedOutputs:
        """Copy every output of a media item.

        Args:
            offer: The model that made them.
            outputs: As the provider names them.
            keys: Where they are stored.
            request: For whom.

        Raises:
            OutputError: There is nothing of what was bought, or none of it can be had.
            CopyDelayedError: Provider or store are unavailable now, or what arrived seems damaged.
        """
        if not outputs:
            nothing = SuspectOutputError(f"{offer.provider.name} finished without a result")
            is_final = request.last or offer.provider.capabilities.keeps_answers
            raise nothing if is_final else CopyDelayedError(nothing)
        mark = mark_of(offer, keys.media_id, from_files=request.from_files()) if self._marks else None
        files, missing = list[StoredFile](), dict[int, ProviderError]()
        for index, output in enumerate(outputs):
            target = OutputTarget(keys, index, tuple(offer.card.output_types), mark)
            try:
                file = await self._copy(offer, output, target, request)
            except OutputError as error:
                missing[index] = error
                continue
            except (NotReachedError, BusyError, TimeoutError) as error:
                if not request.last:
                    log.warning("copy_delayed", index=index, error=repr(error))
                    raise CopyDelayedError from error
                missing[index] = OutputError(f"it could not be fetched in time: {error}")
                continue
            except StoreError as error:
                log.warning("copy_delayed", index=index, error=repr(error))
                raise CopyDelayedError from error
            log.info("output_stored", index=index, key=file.key, bytes=file.bytes, media_type=file.media_type)
            files.append(await self._prober.probe(file, mark))
        if missing:
            _check_missing(missing, none=not files, last=request.last)
        told = (notices.output_not_kept(index, error.message) for index, error in missing.items())
        return CopiedOutputs(tuple(files), tuple(told))

    async def _copy(self, offer: Offer, output: Output, target: OutputTarget, request: CopyRequest) -> StoredFile:
        """Copy one output; what seems damaged is fetched twice.

        Raises:
            SuspectOutputError: It seems damaged, and is to be fetched again later.
            OutputError: There is nothing of what was bought.
        """
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
                            return await self._copy_once(offer, output, target, seen, last=request.last)
            except SuspectOutputError as error:
                log.warning("output_suspect", index=target.index, code=error.code, message=error.message)
                if kept and error.received is None:
                    raise OutputError(error.message) from error
                if request.last or seen:
                    raise
                seen.add(error.received or "")
            await asyncio.sleep(SECOND_FETCH)

    async def _copy_once(
        self, offer: Offer, output: Output, target: OutputTarget, seen: Collection[str], *, last: bool
    ) -> StoredFile:
        """Copy one output into the store.

        Raises:
            SuspectOutputError: It is not complete, or there is nothing of what was bought.
            OutputError: It cannot be had.
            NotReachedError, BusyError: The provider does not answer now, or too slowly.
            StoreUnavailableError: The store does not.
        """
        async with aclosing(adapter_calls.chunks(offer.provider, output)) as chunks:
            received = ReceivedOutput(chunks, self._limits, seen)
            head = (await received.beginning(HEAD_BYTES))[:HEAD_BYTES]
            kind = describe(head, target.types)
            if not head or kind.media_type in _WORDS:
                nothing = _why_nothing(head, kind, target.types, output)
                if nothing is not None:
                    # An error page is the same each time, until the result is there again.
                    raise SuspectOutputError(f"{offer.provider.name} delivered {nothing}")
            stream = _CheckedStream(kind, head, received, seen, last=last)
            marking = None if target.mark is None else MarkedOutput(target.mark, kind.media_type, self._signer)
            content = stream.chunks() if marking is None else marking.chunks(stream.chunks())
            key = target.keys.key(target.index, kind.extension)
            try:
                await self._store.put(key, content, kind.content_type)
            except StoreError:
                # The store's client may wrap the error of its source.
                if stream.error is not None:
                    raise stream.error from None
                raise
        marked = None if marking is None else marking.recorded()
        told = [*self._notices(head, kind, target.types), stream.notice, None if marked is None else marked.notice]
        return StoredFile(
            id=new_id(),
            index=target.index,
            key=key,
            media_type=kind.media_type,
            bytes=received.size if marked is None else marked.bytes,
            width=kind.width,
            height=kind.height,
            sha256=received.sha256 if marked is None else marked.sha256,
            source_sha256=received.sha256,
            provenance=None if marked is None else marked.provenance,
            warnings=notices.stored(told) if (told := list(filter(None, told))) else None,
        )

    def _notices(self, head: bytes, kind: Kind, types: Sequence[str]) -> Iterator[Notice]:
        """What the beginning of a file says against it."""
        if kind.media_type == UNKNOWN:
            message = f"its type cannot be told from its bytes, which begin with {head[:8]!r}"
            yield Notice(WarningCode.UNKNOWN_TYPE, message)
        if kind.media_type in _WORDS and not _makes_text(types):
            yield Notice(WarningCode.UNEXPECTED_TEXT, "it is text, and the model makes none")
        if kind.width and kind.height and kind.width * kind.height > self._limits.max_pixels:
            yield notices.too_many_pixels(kind.width, kind.height, self._limits.max_pixels)


def _check_missing(missing: Mapping[int, ProviderError], *, none: bool, last: bool) -> None:
    """Raise what ends the copy of a result of which outputs are missing, or all; otherwise the others are kept."""
    suspect = next((error for error in missing.values() if isinstance(error, SuspectOutputError)), None)
    if suspect is not None and not last:
        raise CopyDelayedError(suspect)
    if none:
        raise next(iter(missing.values()))
    for index, error in missing.items():
        log.warning("output_not_kept", index=index, code=error.code, message=error.message)


def _makes_text(types: Sequence[str]) -> bool:
    """Whether a model makes text, as far as its card says; one that says nothing may."""
    return not types or any(one.startswith("text/") or one in {*_WORDS, SVG} for one in types)


def _why_nothing(head: bytes, kind: Kind, types: Sequence[str], output: Output) -> str | None:
    """Why there is nothing of what was bought, in words; None: there is something."""
    if not head:
        return "an empty file in place of a result"
    if HTML not in types and (kind.media_type == HTML or _HTML_PAGE.match(head)):
        return "an HTML page, such as servers send in place of an answer"
    if _makes_text(types) or len(head) >= HEAD_BYTES or _NAMED_AS_TEXT.search(output.location):
        return None
    shown = head[: 4 * SHOWN_CHARS].decode(errors="replace")[:SHOWN_CHARS]
    return f"text in place of a result: {shown!r}"


class _CheckedStream:
    """Checks the bytes that pass through for the end that their format defines."""

    def __init__(self, kind: Kind, head: bytes, received: ReceivedOutput, seen: Collection[str], *, last: bool) -> None:
        self._kind = kind
        self._received = received
        self._seen = seen
        self._last = last
        self._ending = EndDetector(kind, head)
        self._text = codecs.getincrementaldecoder("utf-8")() if kind.is_text else None
        self._fault: Notice | None = None
        self.error: ProviderError | None = None
        """What ended the stream early."""
        self.notice: Notice | None = None
        """What is wrong with the file, although it is kept."""

    async def chunks(self) -> AsyncIterator[bytes]:
        """All bytes; an error after the last one if they are not complete, unless they are to be kept."""
        try:
            async for chunk in self._received.chunks():
                self._ending.feed(chunk)
                if self._text is not None and self._fault is None:
                    self._check_text(self._text, chunk)
                yield chunk
        except (NotReachedError, SuspectOutputError) as error:
            if not self._last:
                self.error = error
                raise
            self._fault = Notice(WarningCode.CUT_OFF, f"it is not complete: {error.message}")
        except ProviderError as error:
            self.error = error
            raise
        if self._fault is None and not self._ending.is_complete:
            message = f"the {self._kind.media_type} is cut off after {self._received.size} bytes"
            self._fault = Notice(WarningCode.CUT_OFF, message)
        if self._fault is not None and not (self._last or self._received.sha256 in self._seen):
            self.error = self._received.refused(f"the provider's result is damaged: {self._fault.message}")
            raise self.error
        self.notice = self._fault

    def _check_text(self, text: codecs.IncrementalDecoder, chunk: bytes) -> None:
        try:
            text.decode(chunk)
        except UnicodeDecodeError:
            self._fault = Notice(WarningCode.UNKNOWN_TYPE, "it begins as text and is not text throughout")
