"""Whether a file is one of ours, and what it says of its origin; for strangers with a file in hand.

1. The file is written to a temporary file, up to the size of an output.
2. Both hashes: of all bytes, and of what is left without a mark of ours.
3. Marks and manifests are read, in a thread: bounded in memory, whatever the bytes are. A manifest is verified in a
   process of its own.
4. One of the hashes is on record, or it is not. Nothing else of a media item is told.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.core.errors import InvalidInputError, UnavailableError
from app.media import queries
from app.media.queries import KnownFile

if TYPE_CHECKING:
    from app.provenance.origin import FileOrigin

AT_ONCE: Final = 4
"""Files that one process checks at the same time."""


class ChecksBusyError(UnavailableError):
    """Too many files are being checked."""

    code = "checks_busy"
    title = "Too many checks at once"


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file, and whether it is ours."""

    origin: "FileOrigin"
    known: KnownFile | None
    """The file on record with one of its hashes."""

    def holds(self, media_id: UUID) -> bool:
        """Whether a mark that names this media item is true of this file."""
        return self.known is not None and self.known.media_id == media_id


def origin_of(file: IO[bytes], trust_list: Path | None) -> "FileOrigin":
    """What an opened file says of its origin. Blocking."""
    # Not before it is needed: readers of eleven kinds of containers would cost every API a MiB.
    from app.provenance import origin  # noqa: PLC0415

    return origin.origin_of(file, trust_list)


class ProvenanceCheck:
    """Checks files; one object for each process."""

    def __init__(self, db: DatabasePool, trust_list: Path | None) -> None:
        """See `ProvenanceCheck`.

        Args:
            db: Where hashes are on record.
            trust_list: Certificates whose C2PA manifests are trusted, PEM; None: that is not asked.
        """
        self._db = db
        self._trust_list = trust_list
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
                origin = await asyncio.to_thread(origin_of, file, self._trust_list)
        finally:
            self._running -= 1
        known = await queries.file_by_hash(self._db, {origin.sha256, origin.source_sha256})
        return CheckedFile(origin, known)
