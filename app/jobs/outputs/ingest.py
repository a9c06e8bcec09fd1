"""Outputs on their way from the provider into our store, chunk by chunk.

They are paid for, so what comes is stored: looking at it describes it and decides nothing.

1. A place: how many are copied at the same time, and in which order (`places.py`).
2. The first bytes show its type. Only where there is nothing of what was bought (no byte at all, an HTML page, words
   about a failure) nothing is written.
3. The stream passes through sha256 and the limits of size and speed (`received.py`), gets its mark of origin
   (`marks.py`) and, if the operator has a certificate, a signature (`signatures.py`), and goes into the store.
4. The last bytes show whether it is complete; if not, it is fetched again at once, and then later. What comes twice
   with the same bytes is what the provider has, and is kept with a warning; so is the last that came.
5. What needs a decoder, such as a video's duration, is probed (`probe.py`), if possible.
One output that cannot be had does not take the others with it: what is copied is recorded before the rest is fetched
again (`earlier_copies.py`). The object is written before its row in the database: a crash in between leaves an object
under a key that the next worker writes again.
"""

import asyncio
import codecs
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final
from uuid import UUID

import structlog

from app.core.file_types import HEAD_BYTES, SVG, UNKNOWN, EndDetector, Kind, describe
from app.core.ids import new_id
from app.core.telemetry import tracing
from app.jobs import notices
from app.jobs.notices import Notice, WarningCode
from app.jobs.outputs.error_texts import tells_of_a_failure
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
MOST_UNREACHABLE: Final = 3
"""Outputs of one pass that cannot be reached, after which the others are not tried."""
SECOND_FETCH: Final = 0.5
"""Seconds until an output that seems damaged is fetched once more, to compare."""


@dataclass(frozen=True, slots=True)
class EarlierCopy:
    """An output that was copied in an earlier pass, in which others could not be."""

    file: StoredFile
    is_damaged: bool
    """It is fetched again, and kept if nothing better comes."""


class CopyDelayedError(Exception):
    """Provider or store are unavailable now, or an output seems damaged; nothing is lost by trying again later."""

    def __init__(
        self, suspect: SuspectOutputError | None = None, copied: Mapping[int, EarlierCopy] = MappingProxyType({})
    ) -> None:
        super().__init__()
        self.suspect = suspect
        """What is wrong with what arrived; None: nothing that could be judged has arrived."""
        self.copied = copied
        """By index: what is in the store already, and need not be fetched again, or may not come again."""


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
    copied: Mapping[int, EarlierCopy] = field(default_factory=dict[int, EarlierCopy])
    """By index: what earlier passes have copied."""
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
        whole = {index: one for index, one in request.copied.items() if not one.is_damaged}
        copy = _Pass(dict(request.copied))
        for index, output in enumerate(outputs):
            if index in whole:
                continue
            target = OutputTarget(keys, index, tuple(offer.card.output_types), mark)
            try:
                file, error = await self._copy(offer, output, target, request)
            except StoreError as error:
                log.warning("copy_delayed", index=index, error=repr(error))
                raise CopyDelayedError(None, copy.copied) from error
            if file is not None:
                log.info("output_stored", index=index, key=file.key, bytes=file.bytes, media_type=file.media_type)
                copy.copied[index] = EarlierCopy(await self._prober.probe(file, mark), error is not None)
            if error is not None and copy.has_failed(index, error, last=request.last):
                break
        files = tuple(copy.copied[index].file for index in sorted(copy.copied))
        return copy.judged(files) if copy.delayed or copy.missing else CopiedOutputs(files)

    async def _copy(
        self, offer: Offer, output: Output, target: OutputTarget, request: CopyRequest
    ) -> tuple[StoredFile | None, ProviderError | None]:
        """Copy one output; what seems damaged is fetched twice.

        Returns:
            What is in the store now, and what is wrong with it, or why it is not: SuspectOutputError, NotReachedError
            and BusyError where it is to be fetched again later, OutputError where it need not be.

        Raises:
            StoreError: The store does not answer.
        """
        # What is computed on this machine, or lies in our own store, needs no place of the network's.
        kept = offer.provider.capabilities.keeps_answers and "://" not in output.location
        places = self._here if kept or offer.queue == "local" else self._network
        seen, best = set[str](), None
        while True:
            try:
                # An owner's share is larger: one provider that drips must not stop what the owner has at others.
                parties = Party(offer.provider.name), Party(request.owner_id, ratio=5)
                async with places.place(*parties, on_wait=request.on_wait):
                    async with asyncio.timeout(self._limits.longest_copy):
                        with tracing.span("store output", index=target.index):
                            file, error = await self._copy_once(offer, output, target, seen)
            except TimeoutError:
                return best, NotReachedError(f"{offer.provider.name} did not send it in time")
            except ProviderError as failed:
                file, error = None, failed
            best = file or best
            if error is None or request.last:
                return best, error if best is None else None
            log.warning("output_suspect", index=target.index, code=error.code, message=error.message)
            if kept and file is None:
                return best, OutputError(error.message)
            if seen or not isinstance(error, SuspectOutputError):
                return best, error
            seen.add("" if file is None else file.source_sha256 or "")
            await asyncio.sleep(SECOND_FETCH)

    async def _copy_once(
        self, offer: Offer, output: Output, target: OutputTarget, seen: Collection[str]
    ) -> tuple[StoredFile, ProviderError | None]:
        """Copy one output into the store.

        Returns:
            What is in the store now, and what is wrong with it; None: nothing, or it came so twice.

        Raises:
            SuspectOutputError: There is nothing of what was bought.
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
            stream = _CheckedStream(kind, head, received)
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
        file = StoredFile(
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
        return file, None if received.sha256 in seen else stream.fault

    def _notices(self, head: bytes, kind: Kind, types: Sequence[str]) -> Iterator[Notice]:
        """What the beginning of a file says against it."""
        if kind.media_type == UNKNOWN:
            message = f"its type cannot be told from its bytes, which begin with {head[:8]!r}"
            yield Notice(WarningCode.UNKNOWN_TYPE, message)
        if kind.media_type in _WORDS and not _makes_text(types):
            yield Notice(WarningCode.UNEXPECTED_TEXT, "it is text, and the model makes none")
        if kind.width and kind.height and kind.width * kind.height > self._limits.max_pixels:
            yield notices.too_many_pixels(kind.width, kind.height, self._limits.max_pixels)


@dataclass
class _Pass:
    """How the outputs of one media item fared in one pass."""

    copied: dict[int, EarlierCopy]
    missing: dict[int, ProviderError] = field(default_factory=dict[int, ProviderError])
    """What can never be had, by index."""
    delayed: list[ProviderError] = field(default_factory=list[ProviderError])
    """Why others are to be fetched again."""
    _unreachable: int = 0

    def has_failed(self, index: int, error: ProviderError, *, last: bool) -> bool:
        """Note why an output is not whole; True: so many could not be reached that the others are not tried."""
        log.warning("output_not_copied", index=index, code=error.code, message=error.message, last=last)
        is_final = last or not isinstance(error, SuspectOutputError | NotReachedError | BusyError)
        if not is_final:
            self.delayed.append(error)
            self._unreachable += not isinstance(error, SuspectOutputError)
            return self._unreachable >= MOST_UNREACHABLE
        if index not in self.copied:
            self.missing[index] = error
        return False

    def judged(self, files: tuple[StoredFile, ...]) -> CopiedOutputs:
        """What could be kept where something could not; raises as `OutputIngest.copy_all` does."""
        if self.delayed:
            suspects = [error for error in self.delayed if isinstance(error, SuspectOutputError)]
            raise CopyDelayedError(suspects[0] if len(suspects) == len(self.delayed) else None, self.copied)
        if not files:
            raise next(iter(self.missing.values()))
        told = (notices.output_not_kept(index, error.message) for index, error in self.missing.items())
        return CopiedOutputs(files, tuple(told))


def _makes_text(types: Sequence[str]) -> bool:
    """Whether a model makes text, as far as its card says; one that says nothing may."""
    return not types or any(one.startswith("text/") or one in {*_WORDS, SVG} for one in types)


def _why_nothing(head: bytes, kind: Kind, types: Sequence[str], output: Output) -> str | None:
    """Why there is nothing of what was bought, in words; None: there is something."""
    if not head:
        return "an empty file in place of a result"
    if HTML not in types and (kind.media_type == HTML or _HTML_PAGE.match(head)):
        return "an HTML page, such as servers send in place of an answer"
    if _makes_text(types) or _NAMED_AS_TEXT.search(output.location) or not tells_of_a_failure(head, kind.media_type):
        return None
    shown = head[: 4 * SHOWN_CHARS].decode(errors="replace")[:SHOWN_CHARS]
    return f"text in place of a result: {shown!r}"


class _CheckedStream:
    """Checks the bytes that pass through for the end that their format defines."""

    def __init__(self, kind: Kind, head: bytes, received: ReceivedOutput) -> None:
        self._kind = kind
        self._received = received
        self._ending = EndDetector(kind, head)
        self._text = codecs.getincrementaldecoder("utf-8")() if kind.is_text else None
        self.error: ProviderError | None = None
        """What ended the stream, so that nothing of it is kept."""
        self.notice: Notice | None = None
        """What is wrong with the file, although it is kept."""
        self.fault: ProviderError | None = None
        """Why it is to be fetched again."""

    async def chunks(self) -> AsyncIterator[bytes]:
        """All bytes; where they break off those that came, as they may not come again."""
        try:
            async for chunk in self._received.chunks():
                self._ending.feed(chunk)
                if self._text is not None and self.notice is None:
                    self._check_text(self._text, chunk)
                yield chunk
        except (NotReachedError, SuspectOutputError) as error:
            self.fault = error
            self.notice = Notice(WarningCode.CUT_OFF, f"it is not complete: {error.message}")
            return
        except ProviderError as error:
            self.error = error
            raise
        if self.notice is None and not self._ending.is_complete:
            message = f"the {self._kind.media_type} is cut off after {self._received.size} bytes"
            self.notice = Notice(WarningCode.CUT_OFF, message)
        if self.notice is not None:
            self.fault = SuspectOutputError(f"the provider's result is damaged: {self.notice.message}")

    def _check_text(self, text: codecs.IncrementalDecoder, chunk: bytes) -> None:
        try:
            text.decode(chunk)
        except UnicodeDecodeError:
            self.notice = Notice(WarningCode.UNKNOWN_TYPE, "it begins as text and is not text throughout")
