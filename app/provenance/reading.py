"""What a file says about its origin: marks of ours, what others wrote into XMP, and whether it has a C2PA manifest.

For any file of any stranger: memory is bounded, and what cannot be read is said.
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Final

from app.provenance import xmp
from app.provenance.errors import DamagedError, ProvenanceError
from app.provenance.formats import HEAD_BYTES, format_of
from app.provenance.mark import Mark, find_written
from app.provenance.window import C2pa, FileWindow, Part, Readable, StreamWindow, Window, Xmp, beginning

_MOST_PACKETS: Final = 16
_MOST_PARTS: Final = 10_000
_SLICE: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Marks:
    """What is in a file."""

    format: str | None
    """Of the file; None: one that has no place for a mark."""
    ours: tuple[Mark, ...] = ()
    """Marks in our namespace. Anybody can write these; whether they hold is seen from the hashes that are on record."""
    exact: bool = False
    """Whether the first one is byte for byte as we write it, so that it can be taken out again."""
    source_types: tuple[str, ...] = ()
    """All values of `Iptc4xmpExt:DigitalSourceType`, ours included."""
    c2pa: bool = False
    """Whether there is a C2PA manifest store; not whether it holds."""
    manifest_url: str = ""
    """Where XMP says that a C2PA manifest is kept instead; never fetched here."""
    xmp_packets: int = 0
    problem: str = ""
    """Why the file could not be read to its end; empty: it was."""


class MarkReader:
    """One file that is read as it comes; feed it, then close it."""

    def __init__(self) -> None:
        self._window = StreamWindow()
        self._found = _Found()
        self._steps = _reading(self._window, self._found)
        self._done = False
        self._step()

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the file."""
        for start in range(0, len(chunk), _SLICE):
            piece = chunk[start : start + _SLICE]
            if self._done or self._window.skip(len(piece)):
                continue
            self._window.feed(piece)
            if self._window.end >= self._window.wanted:
                self._step()
            self._window.take(self._window.free)

    def close(self) -> Marks:
        """The file has ended; returns what is in it."""
        self._window.close()
        self._step()
        return self._found.marks()

    def _step(self) -> None:
        if not self._done:
            self._done = next(self._steps, self) is self  # what ends a walk


def marks_in(file: Readable) -> Marks:
    """The same for a file that is all there: formats whose directory may be anywhere (TIFF) are read at any size."""
    found = _Found()
    for _ in _reading(FileWindow(file), found):
        pass
    return found.marks()


def _reading(window: Window, found: "_Found") -> Generator[None, None, None]:
    head = yield from beginning(window, HEAD_BYTES)
    kind = format_of(head)
    if kind is None:
        return
    found.format = kind.names
    try:
        for part in kind.walk(window):
            if part is None:
                yield
            elif not found.take(part):
                found.problem = "it has more metadata than is read"
                return
    except ProvenanceError as error:
        found.problem = str(error)


class _Found:
    """What a reader has met so far."""

    def __init__(self) -> None:
        self.format: str | None = None
        self.problem = ""
        self._ours: list[Mark] = []
        self._exact = False
        self._source_types: list[str] = []
        self._c2pa = False
        self._manifest = ""
        self._packets = 0
        self._parts = 0

    def take(self, part: Part) -> bool:
        """Whether there may be more."""
        self._parts += 1
        self._c2pa = self._c2pa or isinstance(part, C2pa)
        if isinstance(part, Xmp):
            self._packets += 1
            self._take_xmp(part.data)
        return self._packets < _MOST_PACKETS and self._parts < _MOST_PARTS

    def _take_xmp(self, data: bytes) -> None:
        try:
            properties = xmp.read(data)
        except DamagedError as error:
            self.problem = str(error)
            return
        self._manifest = self._manifest or properties.manifest
        self._source_types += properties.source_types[:_MOST_PACKETS]
        if properties.mark is not None:
            self._exact = self._exact or (not self._ours and find_written(data) is not None)
            self._ours.append(properties.mark)

    def marks(self) -> Marks:
        return Marks(
            self.format,
            tuple(self._ours),
            self._exact,
            tuple(self._source_types),
            self._c2pa,
            self._manifest,
            self._packets,
            self.problem,
        )


def read_marks(chunks: Iterable[bytes]) -> Marks:
    """What these chunks of a file say."""
    reader = MarkReader()
    for chunk in chunks:
        reader.feed(chunk)
    return reader.close()
