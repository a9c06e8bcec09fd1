"""The part of a file that a walk over its format can look at, whether the file comes as a stream or lies on disk.

A walk is a generator: it asks for bytes with `yield from`, and is stopped wherever they have not arrived yet.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final, Protocol

from app.provenance.errors import DamagedError, TooFarError

HOLD: Final = 1024 * 1024
"""Bytes of a stream that are held back at most, until it is decided what happens to them."""
AT_END: Final = 1 << 63
"""The offset of what is appended to a file whose size is not known yet."""
_SMALL: Final = 16 * 1024
_MOST_LOOKS: Final = 300_000
"""Times that a walk may look at bytes; bounds the time for hostile files."""


@dataclass(frozen=True, slots=True)
class Edit:
    """So many bytes are replaced by these, at this offset of the file as it comes."""

    start: int
    removed: int
    inserted: bytes


@dataclass(frozen=True, slots=True)
class Hold:
    """From here on bytes may still have to change, depending on what follows."""

    start: int


@dataclass(frozen=True, slots=True)
class C2pa:
    """A C2PA manifest store."""

    start: int


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a packet of our own is inserted."""

    start: int
    insert: Callable[[bytes], list[Edit]]
    restore: str = ""
    """What its removal has to know; it is written into the packet."""


@dataclass(frozen=True, slots=True)
class Xmp:
    """A packet that is there."""

    start: int
    data: bytes
    resize: Callable[[bytes], list[Edit]]
    """Puts other data into its place, longer or shorter; raises NoRoomError."""
    delete: Callable[[str], list[Edit]]
    """Takes it out with all that was inserted for it; told what was noted for this."""
    restore: str = ""
    """What the removal of a completion has to know; it is written into the completion."""
    undo: Callable[[str], list[Edit]] | None = None
    """Takes a completion out where another way than `resize` is needed."""


Part = Hold | C2pa | Slot | Xmp
Walk = Generator[Part | None, None, None]
"""None: more bytes are needed."""


class Window(Protocol):
    """What a walk sees. Offsets count from the beginning of the file."""

    @property
    def total(self) -> int | None:
        """The size of the file; None: it comes as a stream."""
        ...

    def at(self, offset: int, length: int) -> Generator[None, None, bytes]:
        """Exactly these bytes.

        Raises:
            DamagedError: The file ends before.
            TooFarError: More would have to be held than is allowed.
        """
        ...

    def some(self, offset: int, length: int) -> Generator[None, None, bytes]:
        """At least one byte and at most so many; none at the end of the file."""
        ...

    def size(self) -> Generator[None, None, int]:
        """The size of the whole file, once it is there."""
        ...

    def release(self, offset: int) -> None:
        """What lies before will not be looked at again."""
        ...


def beginning(window: Window, length: int) -> Generator[None, None, bytes]:
    """The first bytes of a file: so many, or all there are."""
    data = b""
    while len(data) < length:
        more = yield from window.some(len(data), length - len(data))
        if not more:
            break
        data += more
    return data


class _Looks:
    """Counts them."""

    def __init__(self) -> None:
        self._count = 0

    def count(self) -> None:
        """One more.

        Raises:
            TooFarError: There were too many.
        """
        self._count += 1
        if self._count > _MOST_LOOKS:
            raise TooFarError("it has more parts than are looked at")


class _Pieces:
    """Chunks as they came, so that what is only handed on is not copied."""

    def __init__(self) -> None:
        self.start = 0
        self._chunks: list[bytes] = []
        self._starts: list[int] = []

    def append(self, chunk: bytes) -> None:
        """The next bytes; small pieces are put together."""
        if not chunk:
            return
        if self._chunks and len(self._chunks[-1]) + len(chunk) <= _SMALL:
            self._chunks[-1] += chunk
            return
        self._starts.append(self._starts[-1] + len(self._chunks[-1]) if self._chunks else self.start)
        self._chunks.append(chunk)

    def piece(self, start: int, length: int) -> bytes:
        """At most so many bytes from here on, without putting chunks together."""
        at = bisect_right(self._starts, start) - 1
        begin = start - self._starts[at] if at >= 0 else 0
        return self._chunks[at][begin : begin + length] if at >= 0 else b""

    def slice(self, start: int, end: int) -> bytes:
        """These bytes, all of which are held."""
        if start >= end:
            return b""
        at = bisect_right(self._starts, start) - 1
        begin = start - self._starts[at]
        first = self._chunks[at][begin : begin + end - start]
        missing = end - start - len(first)
        if not missing:
            return first
        parts = [first]
        while missing:
            at += 1
            parts.append(self._chunks[at][:missing])
            missing -= len(parts[-1])
        return b"".join(parts)

    def take(self, end: int) -> list[bytes]:
        """Give away what lies before this offset."""
        if end <= self.start:
            return []
        count = bisect_left(self._starts, end)
        taken = self._chunks[:count]
        last = self._starts[count - 1]
        del self._chunks[:count], self._starts[:count]
        rest = taken[-1][end - last :]
        if rest:
            taken[-1] = taken[-1][: end - last]
            self._chunks.insert(0, rest)
            self._starts.insert(0, end)
        self.start = end
        return taken


class StreamWindow:
    """A window over chunks that arrive one after the other."""

    def __init__(self, hold: int = HOLD) -> None:
        self._looks = _Looks()
        self._hold = hold
        self._held = _Pieces()
        self._released = 0
        self._pinned: int | None = None
        self._closed = False
        self.start = 0
        """The first byte that is held."""
        self.end = 0
        """Bytes that have arrived."""
        self.wanted = 1
        """How many have to arrive before the walk can go on."""

    @property
    def total(self) -> None:
        """As `Window.total`."""
        return

    @property
    def free(self) -> int:
        """Up to where bytes may be handed on."""
        return self._released if self._pinned is None else min(self._released, self._pinned)

    def feed(self, chunk: bytes) -> None:
        """The next bytes have arrived."""
        self._held.append(chunk)
        self.end += len(chunk)

    def skip(self, size: int) -> bool:
        """Whether the next so many bytes can be handed on without being held; then they count as arrived."""
        return self.end + size < self.wanted and self.pass_on(size, self.free)

    def pass_on(self, size: int, before: int) -> bool:
        """Whether the next so many bytes lie before this offset and nothing is held; then they count as arrived."""
        if self.start != self.end or self.end + size > before:
            return False
        self.end += size
        self.start = self._held.start = self.end
        return True

    def close(self) -> None:
        """All bytes have arrived."""
        self._closed = True

    def pin(self, offset: int) -> None:
        """Bytes from here on may still change."""
        self._pinned = offset if self._pinned is None else min(self._pinned, offset)

    def take(self, end: int) -> list[bytes]:
        """Hand on what is held up to here."""
        taken = self._held.take(min(end, self.end))
        self.start = self._held.start
        return taken

    def release(self, offset: int) -> None:
        """As `Window.release`."""
        self._released = max(self._released, offset)

    def at(self, offset: int, length: int) -> Generator[None, None, bytes]:
        """As `Window.at`."""
        yield from self._arrived(offset, length)
        if self.end < offset + length:
            raise DamagedError(f"it is cut off after {self.end} bytes")
        return self._slice(offset, length)

    def some(self, offset: int, length: int) -> Generator[None, None, bytes]:
        """As `Window.some`."""
        yield from self._arrived(offset, 1)
        if offset < self.start:
            raise DamagedError("its parts overlap")
        return self._held.piece(offset, length)

    def size(self) -> Generator[None, None, int]:
        """As `Window.size`."""
        while self.end - self.free <= self._hold and not self._closed:
            self.wanted = self.end + 1
            yield
        if self.end - self.free > self._hold:
            raise TooFarError(f"it has more than {self._hold} bytes, and has to be held as a whole")
        return self.end

    def _arrived(self, offset: int, length: int) -> Generator[None, None, None]:
        self._looks.count()
        if offset + length - self.free > self._hold:
            # Whether or not it has arrived: what is decided must not depend on chunks.
            raise TooFarError(f"what matters lies more than {self._hold} bytes behind")
        while self.end < offset + length and not self._closed:
            self.wanted = offset + length
            yield

    def _slice(self, offset: int, length: int) -> bytes:
        if offset < self.start:
            raise DamagedError("its parts overlap")
        return self._held.slice(offset, min(offset + length, self.end))


class Readable(Protocol):
    """A file opened for reading."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As files do."""
        ...

    def read(self, size: int = -1, /) -> bytes:
        """As files do."""
        ...


class FileWindow:
    """A window over a file that is all there."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._looks = _Looks()
        self._size = file.seek(0, 2)

    @property
    def total(self) -> int:
        """As `Window.total`."""
        return self._size

    def release(self, offset: int) -> None:
        """As `Window.release`: there is nothing to do."""

    def at(self, offset: int, length: int) -> Generator[None, None, bytes]:
        """As `Window.at`."""
        if offset + length > self._size:
            raise DamagedError(f"it is cut off after {self._size} bytes")
        return (yield from self.some(offset, length))

    def some(self, offset: int, length: int) -> Generator[None, None, bytes]:
        """As `Window.some`."""
        yield from ()
        self._looks.count()
        if offset >= self._size:
            return b""
        self._file.seek(offset)
        return self._file.read(length)

    def size(self) -> Generator[None, None, int]:
        """As `Window.size`."""
        yield from ()
        return self._size
