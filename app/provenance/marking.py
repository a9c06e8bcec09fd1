"""Writes a mark into a file while it passes through.

    stream = MarkedStream(mark)
    for chunk in chunks:
        yield from stream.feed(chunk)
    yield from stream.close()
    stream.outcome, stream.reason

At most `hold` bytes (1 MiB) are held back. Whatever is not understood passes unchanged; what is inserted can be taken
out again (`removal.py`), also if the file turns out to be cut off later.
"""

from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass
from typing import Final

from app.provenance import xmp
from app.provenance.errors import DamagedError, NoRoomError, ProvenanceError, TooFarError
from app.provenance.formats import HEAD_BYTES, format_of
from app.provenance.mark import Mark, Outcome
from app.provenance.window import AT_END, HOLD, C2pa, Edit, Part, Slot, StreamWindow, Walk, Window, Xmp, beginning

LARGEST_GROWTH: Final = 4_096
"""Bytes by which a file may grow."""


@dataclass(frozen=True, slots=True)
class _Decision:
    outcome: Outcome
    reason: str = ""
    edits: tuple[Edit, ...] = ()


class MarkedStream:
    """One file on its way; feed it, then close it."""

    def __init__(self, mark: Mark, hold: int = HOLD) -> None:
        """See `MarkedStream`.

        Args:
            mark: What is written.
            hold: Bytes that may be held back.
        """
        self._window = StreamWindow(max(hold, HEAD_BYTES))
        self._decision: _Decision | None = None
        self._steps = self._decide(mark)
        self._edits: list[Edit] = []
        self._cut_off = False
        self.source_size = 0
        """Bytes that came."""
        self.size = 0
        """Bytes that were handed on."""
        next(self._steps)

    @property
    def outcome(self) -> Outcome:
        """What became of the file; final once it is closed."""
        return self._decision.outcome if self._decision else Outcome.NOT_SAFE

    @property
    def reason(self) -> str:
        """Why it was not marked, or what is to be known besides; empty: nothing."""
        if self._cut_off:
            return "it is cut off; the mark is behind what came"
        return self._decision.reason if self._decision else "it was not read to its end"

    @property
    def is_changed(self) -> bool:
        """Whether bytes were inserted."""
        return self.size != self.source_size

    def feed(self, chunk: bytes) -> list[bytes]:
        """The next bytes of the file; returns what can be handed on."""
        self.source_size += len(chunk)
        window = self._window
        if self._decision is None:
            if window.skip(len(chunk)):
                return self._counted([chunk])
            window.feed(chunk)
            if window.end >= window.wanted:
                self._advance()
            return self._counted(self._spliced(window.free if self._decision is None else window.end))
        if window.pass_on(len(chunk), self._edits[0].start if self._edits else AT_END):
            return self._counted([chunk])
        window.feed(chunk)
        return self._counted(self._spliced(window.end))

    def close(self) -> list[bytes]:
        """The file has ended; returns the rest."""
        self._window.close()
        self._advance()
        out = self._spliced(self._window.end)
        for edit in self._edits:
            # Only what is inserted at the end is left, unless the file ended before it should have.
            self._cut_off = self._cut_off or edit.start not in {self._window.end, AT_END}
            out.append(edit.inserted)
        self._edits = []
        return self._counted(out)

    def _advance(self) -> None:
        if self._decision is None:
            next(self._steps, None)

    def _counted(self, out: list[bytes]) -> list[bytes]:
        self.size += sum(map(len, out))
        return out

    def _spliced(self, end: int) -> list[bytes]:
        """What is held up to here, with the edits that lie in it."""
        window, out = self._window, list[bytes]()
        end = min(end, window.end)
        while self._edits and self._edits[0].start + self._edits[0].removed <= end and self._edits[0].start < end:
            edit = self._edits.pop(0)
            out += [*window.take(edit.start), edit.inserted]
            window.take(edit.start + edit.removed)
        if self._edits:
            end = min(end, self._edits[0].start)
        out += window.take(end)
        return [one for one in out if one]

    def _decide(self, mark: Mark) -> Generator[None, None, None]:
        head = yield from beginning(self._window, HEAD_BYTES)
        kind = format_of(head)
        if kind is None:
            decision = _Decision(Outcome.NO_PLACE, "its format has no place for a mark")
        else:
            decision = yield from _decided(self._window, kind.walk, mark)
        self._edits = sorted(decision.edits, key=lambda edit: edit.start)
        self._decision = decision


class _Findings:
    """What a walk has met so far."""

    def __init__(self, mark: Mark) -> None:
        self._mark = mark
        self._slot: Slot | None = None
        self._packets: list[tuple[Xmp, xmp.Properties]] = []

    def take(self, part: Part) -> _Decision | None:
        """The next part; returns a decision if nothing that follows can change it."""
        if isinstance(part, C2pa):
            return _Decision(Outcome.HAS_C2PA)
        if isinstance(part, Slot):
            self._slot = part
        elif isinstance(part, Xmp):
            try:
                properties = xmp.read(part.data)
            except DamagedError as error:
                if b"DigitalSourceType" in part.data:
                    return _Decision(Outcome.ALREADY_MARKED)
                return _Decision(Outcome.NOT_SAFE, str(error))
            if properties.manifest:
                return _Decision(Outcome.HAS_C2PA, "its manifest is kept elsewhere")
            if properties.source_types:
                return _Decision(Outcome.ALREADY_MARKED)
            self._packets.append((part, properties))
        return None

    def decide(self, otherwise: str) -> _Decision:
        """What to do with the file.

        Raises:
            NoRoomError: The XMP that is there cannot be completed.
        """
        if self._packets:
            part, properties = self._packets[0]
            edits = part.resize(xmp.completed(part.data, properties, self._mark, part.restore))
            outcome = Outcome.COMPLETED
        elif self._slot is not None:
            edits = self._slot.insert(self._mark.packet(self._slot.restore))
            outcome = Outcome.MARKED
        else:
            return _Decision(Outcome.NOT_SAFE, otherwise or "it has no place for a mark")
        if sum(len(edit.inserted) - edit.removed for edit in edits) > LARGEST_GROWTH:
            raise NoRoomError(f"it would grow by more than {LARGEST_GROWTH} bytes")
        return _Decision(outcome, "", tuple(edits))


def _decided(window: StreamWindow, walk: Callable[[Window], Walk], mark: Mark) -> Generator[None, None, _Decision]:
    findings = _Findings(mark)
    try:
        try:
            for part in walk(window):
                if part is None:
                    yield
                    continue
                if not isinstance(part, C2pa):
                    window.pin(part.start)
                decision = findings.take(part)
                if decision is not None:
                    return decision
        except TooFarError as error:
            # What has been seen decides; more of the file cannot be held.
            return findings.decide(str(error))
        return findings.decide("")
    except ProvenanceError as error:
        return _Decision(Outcome.NOT_SAFE, str(error))


async def marked(chunks: AsyncIterator[bytes], stream: MarkedStream) -> AsyncIterator[bytes]:
    """The same file with its mark; `stream.outcome` is final once this has ended."""
    async for chunk in chunks:
        for one in stream.feed(chunk):
            yield one
    for one in stream.close():
        yield one
