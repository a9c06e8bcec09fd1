"""Whether a file is one of ours, and what it says of its origin; for strangers with a file in hand.

1. The file is written to a temporary file, up to the size of an output.
2. Both hashes: of all bytes, and of what is left without a mark of ours.
3. Marks and manifests are read, in a thread: bounded in memory, whatever the bytes are.
4. One of the hashes is on record, or it is not. Nothing else of a media item is told.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.core.errors import InvalidInputError, UnavailableError
from app.media import queries
from app.media.queries import KnownFile
from app.provenance.reading import Marks, marks_in
from app.provenance.removal import removed_from

AT_ONCE: Final = 4
"""Files that one process checks at the same time."""
_CHUNK: Final = 256 * 1024


class ChecksBusyError(UnavailableError):
    """Too many files are being checked."""

    code = "checks_busy"
    title = "Too many checks at once"


@dataclass(frozen=True, slots=True)
class FileOrigin:
    """What a file says of its origin."""

    sha256: str
    """Of all its bytes, in hex."""
    source_sha256: str
    """The same without a mark of ours."""
    bytes: int
    marks: Marks


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file, and whether it is ours."""

    origin: FileOrigin
    known: KnownFile | None
    """The file on record with one of its hashes."""

    def holds(self, media_id: UUID) -> bool:
        """Whether a mark that names this media item is true of this file."""
        return self.known is not None and self.known.media_id == media_id


def origin_of(file: IO[bytes]) -> FileOrigin:
    """What an opened file says of its origin. Blocking."""
    file.seek(0)
    whole, size = _hashed(iter(lambda: file.read(_CHUNK), b""))
    source, _ = _hashed(removed_from(file))
    return FileOrigin(whole, source, size, marks_in(file))


class ProvenanceCheck:
    """Checks files; one object for each process."""

    def __init__(self, db: DatabasePool) -> None:
        self._db = db
        self._running = 0

    async def check(self, chunks: Callable[[], AsyncIterator[bytes]]) -> CheckedFile:
        """Check a file.

        Args:
            chunks: Begins to read it.

        Raises:
            ChecksBusyError: Too many are being checked.
        InvalidInputError: It is empty.
        """
        if self._running >= AT_ONCE:
            busy = f"{AT_ONCE} files are being checked; try again in a few seconds"
            raise ChecksBusyError(busy, headers={"Retry-After": "5"})
        self._running += 1
        try:
            with TemporaryFile(prefix="fleek-check-") as file:
                async for chunk in chunks():
                    await asyncio.to_thread(file.write, chunk)
                if file.tell() == 0:
                    raise InvalidInputError("the body is empty; send the file as it is")
                origin = await asyncio.to_thread(origin_of, file)
        finally:
            self._running -= 1
        known = await queries.file_by_hash(self._db, {origin.sha256, origin.source_sha256})
        return CheckedFile(origin, known)


def _hashed(chunks: Iterator[bytes]) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size
