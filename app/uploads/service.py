"""Input files: uploaded by clients, or fetched for them; kept for a while, then removed.

An upload crosses database and store:

1. The type is detected from the first bytes; a refusal here leaves nothing behind.
2. begin: a row that queries do not find is committed. A crash from here on leaves it and perhaps its object; the sweep
   removes both an hour later.
3. The bytes are streamed into the store, hashed, and checked against the size limit.
4. complete: the row can be found; or, where the owner has the same bytes already, that file is extended and this object
   removed.

A deletion hides the row, then removes the object, then the row. After a crash in between the sweep does the rest.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from app.core.database.pool import DatabasePool
from app.core.database.text import storable
from app.core.errors import brief
from app.core.file_types import HEAD_BYTES, EndDetector, Kind
from app.core.ids import new_id
from app.storage.store import Store, StoreError
from app.uploads import queries
from app.uploads.accepted import accepted
from app.uploads.errors import (
    FileTooLargeError,
    PictureTooLargeError,
    TruncatedFileError,
    UploadNotFoundError,
    UploadsBusyError,
    UploadStoreUnavailableError,
    UploadTimeoutError,
)
from app.uploads.queries import PendingUpload, ReceivedFile, StoredFile

log = structlog.get_logger(__name__)

PREFIX: Final = "uploads"
MAX_CONCURRENT: Final = 8
"""Uploads of one process at the same time, some parts of each in memory."""
SLOT_SECONDS: Final = 10.0
"""How long an upload waits for a slot."""
UPLOAD_SECONDS: Final = 900.0
"""How long a whole upload may take."""
SWEEP_BATCH: Final = 100
MAX_NAME_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """What is accepted, and how long it is kept."""

    max_bytes: int
    max_pixels: int
    lifetime: timedelta


class Uploads:
    """The use cases of input files; one object for each process."""

    def __init__(self, db: DatabasePool, store: Store, limits: UploadLimits) -> None:
        self._db = db
        self._store = store
        self.limits = limits
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)

    async def save(self, owner_id: UUID, name: str, chunks: AsyncIterator[bytes]) -> ReceivedFile:
        """Store a file; the same bytes of one owner are stored once.

        Raises:
            UnsupportedFileError, PictureTooLargeError, FileTooLargeError, TruncatedFileError: It is refused.
            UploadTimeoutError, UploadsBusyError, UploadStoreUnavailableError: Not now.
        """
        limit = asyncio.timeout(UPLOAD_SECONDS)
        try:
            async with limit:
                head = await _read_head(chunks)
                kind = self._inspect(b"".join(head))
                await self._wait_for_slot()
                try:
                    stream = _CheckedStream(self.limits.max_bytes, EndDetector(kind, b"".join(head)))
                    return await self._store_as(_pending(owner_id, name, kind), stream, stream.chunks(head, chunks))
                finally:
                    self._slots.release()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise UploadTimeoutError(f"the upload took more than {UPLOAD_SECONDS:.0f} seconds") from error

    async def get(self, owner_id: UUID, upload_id: UUID) -> StoredFile:
        """One file.

        Raises:
            UploadNotFoundError: The owner has none of that id.
        """
        file = await self.find(owner_id, upload_id)
        if file is None:
            raise UploadNotFoundError(upload_id)
        return file

    async def find(self, owner_id: UUID, upload_id: UUID) -> StoredFile | None:
        """One file; None: the owner has none of that id, or it has expired."""
        return await queries.get(self._db, owner_id, upload_id)

    async def page(self, owner_id: UUID, *, before: UUID | None, limit: int) -> Sequence[StoredFile]:
        """Up to `limit` files of an owner, newest first, older than `before`."""
        return await queries.page(self._db, owner_id, before=before, limit=limit)

    async def extend(self, owner_id: UUID, ids: Sequence[UUID]) -> set[UUID]:
        """Which of these files exist; naming them in a request extends them, as another upload does."""
        return await queries.extend(self._db, owner_id, ids, self.limits.lifetime) if ids else set()

    async def delete(self, owner_id: UUID, upload_id: UUID) -> None:
        """Delete a file.

        Raises:
            UploadNotFoundError: The owner has none of that id.
        """
        found = await queries.delete(self._db, owner_id, upload_id)
        if found is None:
            raise UploadNotFoundError(upload_id)
        await self._remove(found.id, found.key)

    async def sweep(self) -> None:
        """Remove expired files and uploads that were never completed."""
        while expired := await queries.expire(self._db, limit=SWEEP_BATCH):
            removed = [await self._remove(found.id, found.key) for found in expired]
            log.info("uploads_swept", count=sum(removed))
            if not all(removed) or len(expired) < SWEEP_BATCH:
                return

    async def _wait_for_slot(self) -> None:
        try:
            async with asyncio.timeout(SLOT_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            busy = f"{MAX_CONCURRENT} uploads are in progress; try again soon"
            raise UploadsBusyError(busy, headers={"Retry-After": "5"}) from None

    async def _store_as(
        self, pending: PendingUpload, stream: "_CheckedStream", chunks: AsyncIterator[bytes]
    ) -> ReceivedFile:
        await queries.begin(self._db, pending)
        try:
            await self._store.put(pending.key, chunks, pending.media_type)
            if not stream.tail.is_complete:
                raise TruncatedFileError(f"the {pending.media_type} is truncated: its end is missing; upload all of it")  # noqa: TRY301 - handled like any other
            received = await queries.complete(
                self._db,
                self._sized(pending, stream.tail.pixels),
                sha256=stream.digest.hexdigest(),
                size=stream.tail.size,
                lifetime=self.limits.lifetime,
            )
        except StoreError as error:
            await self._discard(pending)
            raise UploadStoreUnavailableError(
                "the store does not accept files now", headers={"Retry-After": "5"}
            ) from error
        except Exception:
            await self._discard(pending)
            raise
        if received is None:
            raise UploadTimeoutError("the upload took too long")
        if not received.fresh:
            await self._discard(pending)
        log.info("upload_stored", upload_id=str(received.id), bytes=received.bytes, fresh=received.fresh)
        return received

    async def _discard(self, pending: PendingUpload) -> None:
        """Remove an upload that is not needed; if this fails, the sweep does it."""
        try:
            await queries.abandon(self._db, pending.id)
            await self._remove(pending.id, pending.key)
        except Exception as error:  # noqa: BLE001 - the caller has its own error, and the sweep tries again
            log.warning("upload_cleanup_deferred", upload_id=str(pending.id), error=repr(error))

    async def _remove(self, upload_id: UUID, key: str) -> bool:
        """Remove the object of a deleted file, then its row; False: the store is unavailable, the sweep tries again."""
        try:
            await self._store.delete(key)
        except StoreError as error:
            log.warning("upload_removal_failed", upload_id=str(upload_id), error=str(error))
            return False
        await queries.delete_row(self._db, upload_id)
        return True

    def _inspect(self, head: bytes) -> Kind:
        kind = accepted(head)
        self._check_pixels(kind.width, kind.height)
        return kind

    def _sized(self, pending: PendingUpload, late: tuple[int, int] | None) -> PendingUpload:
        """With the size that stood behind the beginning of the file."""
        if pending.width is not None or late is None:
            return pending
        self._check_pixels(*late)
        return replace(pending, width=late[0], height=late[1])

    def _check_pixels(self, width: int | None, height: int | None) -> None:
        if width and height and width * height > self.limits.max_pixels:
            allowed = {"maxPixels": self.limits.max_pixels}
            size = f"{width}x{height}"
            wrong = {"field": "file", "message": "too many pixels", "given": brief(size), "allowed": allowed}
            raise PictureTooLargeError(
                f"the picture is {size}, more than {self.limits.max_pixels} pixels", errors=[wrong]
            )


def _pending(owner_id: UUID, name: str, kind: Kind) -> PendingUpload:
    upload_id = new_id()
    # The key holds nothing that the client chooses.
    key = f"{PREFIX}/{owner_id}/{upload_id}.{kind.extension}"
    shown = plain_name(name) or f"file.{kind.extension}"
    return PendingUpload(upload_id, owner_id, key, shown, kind.media_type, kind.width, kind.height)


def plain_name(name: str) -> str:
    """A file's name without folders and unprintable characters."""
    last = name.replace("\\", "/").rpartition("/")[2]
    printable = "".join(letter for letter in storable(last) if letter.isprintable()).strip(" .")
    return printable[-MAX_NAME_CHARACTERS:]


async def _read_head(chunks: AsyncIterator[bytes]) -> list[bytes]:
    head: list[bytes] = []
    size = 0
    async for chunk in chunks:
        head.append(chunk)
        size += len(chunk)
        if size >= HEAD_BYTES:
            break
    return head


class _CheckedStream:
    """Counts and hashes the bytes of a stream, and looks for the end of the file's format."""

    def __init__(self, max_bytes: int, tail: EndDetector) -> None:
        self._max_bytes = max_bytes
        self.tail = tail
        self.digest = hashlib.sha256()

    async def chunks(self, head: Iterable[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        for chunk in head:
            yield self._check(chunk)
        async for chunk in rest:
            yield self._check(chunk)

    def _check(self, chunk: bytes) -> bytes:
        self.tail.feed(chunk)
        if self.tail.size > self._max_bytes:
            raise FileTooLargeError(f"the file is larger than {self._max_bytes} bytes")
        self.digest.update(chunk)
        return chunk
