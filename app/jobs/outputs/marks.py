"""The mark of origin that an output gets on its way into the store; how it is written is in `app/provenance/`.

It is inserted while the bytes pass. What came is hashed before, what is stored after; the mark can be taken out again.
"""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final
from uuid import UUID

import msgspec

from app.core import clock
from app.jobs import notices
from app.jobs.notices import Notice
from app.jobs.outputs.signatures import OutputSigner, SignedOutput
from app.media_generator.registry import Offer
from app.provenance.mark import Mark, Outcome, SourceType
from app.provenance.marking import MarkedStream, marked

_MAY_BE_SIGNED: Final = frozenset({Outcome.MARKED, Outcome.COMPLETED, Outcome.ALREADY_MARKED})
TOOL: Final = f"Fleek {version('fleek')}"


def mark_of(offer: Offer, media_id: UUID, *, from_files: bool) -> Mark:
    """The mark of the outputs of one media item; `from_files`: its input named a file."""
    return Mark(source_type(offer, from_files=from_files), TOOL, offer.full_name, media_id)


def source_type(offer: Offer, *, from_files: bool) -> SourceType:
    """What the outputs of a model are; `from_files`: the input named a file."""
    if not offer.card.trained:
        return SourceType.ALGORITHMIC
    return SourceType.COMPOSITE if from_files else SourceType.TRAINED


@dataclass(frozen=True, slots=True)
class Marking:
    """What is recorded of a file's mark."""

    sha256: str
    """Of what is stored, in hex."""
    bytes: int
    provenance: str
    """JSON text, as `ProvenanceOut` shows it."""
    notice: Notice | None
    """Why it has none, where its owner should know; None: nothing to say."""


class MarkedOutput:
    """One output on its way: what is handed on is counted and hashed."""

    def __init__(self, mark: Mark, media_type: str, signer: OutputSigner | None = None) -> None:
        """See `MarkedOutput`.

        Args:
            mark: What is written.
            media_type: Of the file.
            signer: What signs it besides; None: nothing.
        """
        self._mark = mark
        self._stream = MarkedStream(mark)
        self._signed = None if signer is None else SignedOutput(signer, media_type, mark, self._may_sign)
        self._digest = hashlib.sha256()
        self._size = 0

    async def chunks(self, source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The output with its mark, and signed."""
        written = marked(source, self._stream)
        async for chunk in written if self._signed is None else self._signed.chunks(written):
            self._digest.update(chunk)
            self._size += len(chunk)
            yield chunk

    def _may_sign(self) -> bool:
        return self._stream.outcome in _MAY_BE_SIGNED

    def recorded(self) -> Marking:
        """What became of it, once `chunks` has ended."""
        stream = self._stream
        written = stream.outcome in {Outcome.MARKED, Outcome.COMPLETED}
        is_signed = self._signed is not None and self._signed.is_signed
        provenance = {
            "mark": stream.outcome,
            "source_type": self._mark.source_type if written or is_signed else None,
            "c2pa": stream.outcome is Outcome.HAS_C2PA,
            "signed": is_signed,
            "tool": self._mark.tool,
            "at": clock.now(),
            "reason": stream.reason or None,
        }
        notice = notices.not_marked(stream.reason) if stream.outcome is Outcome.NOT_SAFE else None
        if self._signed is not None and self._signed.problem:
            notice = notices.not_signed(self._signed.problem)
        return Marking(self._digest.hexdigest(), self._size, msgspec.json.encode(provenance).decode(), notice)


def marked_bytes(content: bytes, mark: Mark) -> bytes:
    """A small file with its mark, such as a poster."""
    stream = MarkedStream(mark)
    return b"".join([*stream.feed(content), *stream.close()])
