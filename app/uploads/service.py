"""Input files: handed in by clients, or fetched for them; kept for a while, then removed.

Handing in crosses database and store:

1. The first bytes tell what it is; what is refused here leaves nothing behind.
2. announce: a row that nobody finds, committed. A crash from here on leaves it and perhaps its object; the sweep
   removes both an hour later.
3. The bytes go through sha256 and the size limit into the store.
4. arrived: the row can be found, or another one of the same owner and the same bytes gets more time, and this object
   is removed.

Removing: the row is lost to everybody, then the object is removed, then the row. Whatever dies in between, the sweep
begins again where it was.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from app.core.database.pool import DatabasePool
from app.core.database.text import storable
from app.core.errors import brief
from app.core.file_types import HEAD_BYTES, EndDetector, Kind, NotMediaError, inspect
from app.core.ids import new_id
from app.storage.store import Store, StoreError
from app.uploads import queries
from app.uploads.errors import (
    CutOffFileError,
    FileTooLargeError,
    PictureTooLargeError,
    StoreAwayError,
    UnsupportedFileError,
    UploadNotFoundError,
    UploadsBusyError,
    UploadTimeoutError,
)
from app.uploads.queries import Coming

log = structlog.get_logger(__name__)

PREFIX: Final = "uploads"
AT_ONCE: Final = 8
"""Files that one process takes at the same time, some parts of each in memory."""
PATIENCE: Final = 10.0
"""Seconds that a file waits for its turn."""
SLOWEST: Final = 900.0
"""Seconds for all of a file."""
SWEPT_AT_ONCE: Final = 100
LONGEST_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """What is taken, and for how long it is kept."""

    max_bytes: int
    max_pixels: int
    lifetime: timedelta


@dataclass(frozen=True, slots=True)
class HandedIn:
    """A file, with the columns of `queries.one`."""

    row: asyncpg.Record
    fresh: bool
    """False: the owner had handed in the same bytes before."""


class Uploads:
    """What can be done with input files; one object for each process."""

    def __init__(self, db: DatabasePool, store: Store, limits: UploadLimits) -> None:
        self._db = db
        self._store = store
        self.limits = limits
        self._places = asyncio.Semaphore(AT_ONCE)

    async def hand_in(self, owner_id: UUID, name: str, chunks: AsyncIterator[bytes]) -> HandedIn:
        """Take a file; the same bytes of one owner are kept once.

        Raises:
            UnsupportedFileError, PictureTooLargeError, FileTooLargeError: It is not taken.
            UploadTimeoutError, UploadsBusyError, StoreAwayError: Not now.
        """
        limit = asyncio.timeout(SLOWEST)
        try:
            async with limit:
                head = await _beginning(chunks)
                kind = self._inspect(b"".join(head))
                await self._wait_for_a_place()
                try:
                    passage = _Passage(self.limits.max_bytes, EndDetector(kind, b"".join(head)))
                    return await self._take(_coming(owner_id, name, kind), passage, passage.carry(head, chunks))
                finally:
                    self._places.release()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise UploadTimeoutError(f"the file was not here within {SLOWEST:.0f} seconds") from error

    async def get(self, owner_id: UUID, upload_id: UUID) -> asyncpg.Record:
        """One file.

        Raises:
            UploadNotFoundError: The owner has none of that id.
        """
        row = await self.find(owner_id, upload_id)
        if row is None:
            raise UploadNotFoundError(upload_id)
        return row

    async def find(self, owner_id: UUID, upload_id: UUID) -> asyncpg.Record | None:
        """One file; None: the owner has none of that id, or none any more."""
        return await queries.one(self._db, owner_id, upload_id)

    async def page(self, owner_id: UUID, *, before: UUID | None, limit: int) -> Sequence[asyncpg.Record]:
        """Up to `limit` files of an owner, newest first, older than `before`."""
        return await queries.page(self._db, owner_id, before=before, limit=limit)

    async def need(self, owner_id: UUID, ids: Sequence[UUID]) -> set[UUID]:
        """Which of these files there are; a request that names them moves their end, as handing them in does."""
        return await queries.need(self._db, owner_id, ids, self.limits.lifetime) if ids else set()

    async def delete(self, owner_id: UUID, upload_id: UUID) -> None:
        """Remove a file.

        Raises:
            UploadNotFoundError: The owner has none of that id.
        """
        row = await queries.let_go(self._db, owner_id, upload_id)
        if row is None:
            raise UploadNotFoundError(upload_id)
        await self._remove(row["id"], row["key"])

    async def sweep(self) -> None:
        """Remove what has expired, and what was begun and never came."""
        while rows := await queries.expire(self._db, limit=SWEPT_AT_ONCE):
            removed = [await self._remove(row["id"], row["key"]) for row in rows]
            log.info("uploads_swept", count=sum(removed))
            if not all(removed) or len(rows) < SWEPT_AT_ONCE:
                return

    async def _wait_for_a_place(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._places.acquire()
        except TimeoutError:
            busy = f"{AT_ONCE} files are being handed in; try again soon"
            raise UploadsBusyError(busy, headers={"Retry-After": "5"}) from None

    async def _take(self, coming: Coming, passage: "_Passage", chunks: AsyncIterator[bytes]) -> HandedIn:
        await queries.announce(self._db, coming)
        try:
            await self._store.put(coming.key, chunks, coming.media_type)
            if not passage.ending.is_complete:
                raise CutOffFileError(f"the {coming.media_type} is cut off: its end is missing; hand all of it in")  # noqa: TRY301 - handled like any other
            row = await queries.arrived(
                self._db,
                coming,
                sha256=passage.digest.hexdigest(),
                size=passage.ending.size,
                lifetime=self.limits.lifetime,
            )
        except StoreError as error:
            await self._discard(coming)
            raise StoreAwayError("the store does not take files now", headers={"Retry-After": "5"}) from error
        except Exception:
            await self._discard(coming)
            raise
        if row is None:
            raise UploadTimeoutError("the file took too long")
        if not row["fresh"]:
            await self._discard(coming)
        log.info("upload_stored", upload_id=str(row["id"]), bytes=row["bytes"], fresh=row["fresh"])
        return HandedIn(row, row["fresh"])

    async def _discard(self, coming: Coming) -> None:
        """What came of it is not needed; if this fails, the sweep does it."""
        try:
            await queries.give_up(self._db, coming.id)
            await self._remove(coming.id, coming.key)
        except Exception as error:  # noqa: BLE001 - there is an error already, and the sweep
            log.warning("upload_left_to_the_sweep", upload_id=str(coming.id), error=repr(error))

    async def _remove(self, upload_id: UUID, key: str) -> bool:
        """Remove the object of a row that nobody finds, and the row; False: the store is away, the sweep goes on."""
        try:
            await self._store.delete(key)
        except StoreError as error:
            log.warning("upload_not_removed", upload_id=str(upload_id), error=str(error))
            return False
        await queries.removed(self._db, upload_id)
        return True

    def _inspect(self, head: bytes) -> Kind:
        try:
            kind = inspect(head)
        except NotMediaError as error:
            raise UnsupportedFileError(f"the file cannot be used: {error}") from None
        if kind.width and kind.height and kind.width * kind.height > self.limits.max_pixels:
            allowed = {"maxPixels": self.limits.max_pixels}
            size = f"{kind.width}x{kind.height}"
            wrong = {"field": "file", "message": "too many pixels", "given": brief(size), "allowed": allowed}
            raise PictureTooLargeError(
                f"the picture is {size}, more than {self.limits.max_pixels} pixels", errors=[wrong]
            )
        return kind


def _coming(owner_id: UUID, name: str, kind: Kind) -> Coming:
    upload_id = new_id()
    # Nothing of the client's is part of the key.
    key = f"{PREFIX}/{owner_id}/{upload_id}.{kind.extension}"
    shown = plain_name(name) or f"file.{kind.extension}"
    return Coming(upload_id, owner_id, key, shown, kind.media_type, kind.width, kind.height)


def plain_name(name: str) -> str:
    """A file's name without its folders, and without what cannot be printed or stored."""
    last = name.replace("\\", "/").rpartition("/")[2]
    printable = "".join(letter for letter in storable(last) if letter.isprintable()).strip(" .")
    return printable[-LONGEST_NAME:]


async def _beginning(chunks: AsyncIterator[bytes]) -> list[bytes]:
    head: list[bytes] = []
    size = 0
    async for chunk in chunks:
        head.append(chunk)
        size += len(chunk)
        if size >= HEAD_BYTES:
            break
    return head


class _Passage:
    """Counts and hashes what passes through."""

    def __init__(self, max_bytes: int, ending: EndDetector) -> None:
        self._max_bytes = max_bytes
        self.ending = ending
        self.digest = hashlib.sha256()

    async def carry(self, head: Iterable[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        for chunk in head:
            yield self._pass(chunk)
        async for chunk in rest:
            yield self._pass(chunk)

    def _pass(self, chunk: bytes) -> bytes:
        self.ending.feed(chunk)
        if self.ending.size > self._max_bytes:
            raise FileTooLargeError(f"the file is larger than {self._max_bytes} bytes")
        self.digest.update(chunk)
        return chunk
