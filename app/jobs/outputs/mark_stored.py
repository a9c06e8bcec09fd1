"""Marks files that were stored without a mark of origin, in batches, again and again without harm.

1. The object is read into a temporary file. If a run before has marked it and died before step 3, that is seen here.
2. The marked bytes are written under the same key, so URLs stay; until step 3 the hash on record is of what was.
3. Hashes and provenance are recorded, if nobody else has done so.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, Any, Final, TypeAlias
from uuid import UUID

import msgspec
import structlog

from app.core import clock
from app.core.database.pool import DatabasePool
from app.core.database.rows import Row
from app.core.file_types import content_type_of
from app.jobs import notices
from app.jobs.outputs.marks import TOOL, MarkedOutput
from app.jobs.transitions.marking import MarkedFile, record_mark
from app.provenance.mark import Mark, Outcome, SourceType
from app.provenance.reading import marks_in
from app.provenance.removal import removed_from
from app.storage.store import Store, StoreError

log = structlog.get_logger(__name__)

SourceTypeOf: TypeAlias = Callable[[str, Any], SourceType]

BATCH: Final = 100
_CHUNK: Final = 256 * 1024
_BEFORE_ALL: Final = UUID(int=0)
_UNMARKED: Final = """SELECT f.id, f.media_id, f.key, f.media_type, f.sha256, m.model, m.input
FROM files f JOIN media m ON m.id = f.media_id
WHERE f.id > $1 AND f.provenance IS NULL ORDER BY f.id LIMIT $2"""


class _Unmarked(Row, frozen=True):
    id: UUID
    media_id: UUID
    key: str
    media_type: str
    sha256: str
    model: str
    input: str
    """JSON text."""


@dataclass(slots=True)
class MarkCounts:
    """How files fared."""

    marked: int = 0
    left_as_they_are: int = 0
    """No place, a C2PA manifest, a mark of somebody else's, or damaged: their `provenance` says which."""
    failed: int = 0
    """They could not be read or written now; run it again."""


class StoredFileMarker:
    """Marks what is stored already."""

    def __init__(self, db: DatabasePool, store: Store, source_type_of: SourceTypeOf) -> None:
        """See `StoredFileMarker`.

        Args:
            db: Where files are on record.
            store: Where they are.
            source_type_of: What the outputs of a model are, given its name and the input of a media item.
        """
        self._db = db
        self._store = store
        self._source_type_of = source_type_of

    async def mark_all(self, report: Callable[[MarkCounts], None]) -> MarkCounts:
        """Mark everything that has no mark; `report` is called with the counts so far after each batch."""
        counts, after = MarkCounts(), _BEFORE_ALL
        while rows := await self._db.fetch_as(_Unmarked, _UNMARKED, after, BATCH):
            for row in rows:
                try:
                    await self._mark(row, counts)
                except (StoreError, OSError) as error:
                    counts.failed += 1
                    log.warning("file_not_marked", key=row.key, error=repr(error))
            after = rows[-1].id
            report(counts)
        return counts

    async def _mark(self, row: _Unmarked, counts: MarkCounts) -> None:
        source = self._source_type_of(row.model, msgspec.json.decode(row.input))
        mark = Mark(source, TOOL, row.model, row.media_id)
        with TemporaryFile(prefix="fleek-mark-") as file:
            async for chunk in self._store.get(row.key):
                await asyncio.to_thread(file.write, chunk)
            done = await asyncio.to_thread(_marked_before, file, row)
            if done is None:
                done = await self._write(row, mark, file)
        if await record_mark(self._db, done):
            written = msgspec.json.decode(done.provenance)["mark"] in {Outcome.MARKED, Outcome.COMPLETED}
            counts.marked += written
            counts.left_as_they_are += not written

    async def _write(self, row: _Unmarked, mark: Mark, file: IO[bytes]) -> MarkedFile:
        with TemporaryFile(prefix="fleek-mark-") as result:
            marking = MarkedOutput(mark, row.media_type)
            async for chunk in marking.chunks(_chunks(file)):
                await asyncio.to_thread(result.write, chunk)
            recorded = marking.recorded()
            source = await asyncio.to_thread(_sha256, file)
            if recorded.sha256 != source:
                await self._store.put(row.key, _chunks(result), content_type_of(row.media_type))
        warnings = None if recorded.notice is None else notices.stored([recorded.notice])
        return MarkedFile(row.id, row.sha256, recorded.sha256, source, recorded.bytes, recorded.provenance, warnings)


def _marked_before(file: IO[bytes], row: _Unmarked) -> MarkedFile | None:
    """What is to be recorded if a run before has marked the object; None: it is as it came."""
    digest = _sha256(file)
    if digest == row.sha256:
        return None
    source = hashlib.sha256()
    for chunk in removed_from(file):
        source.update(chunk)
    ours = marks_in(file).ours
    if source.hexdigest() != row.sha256 or not ours or ours[0].media_id != row.media_id:
        raise OSError(f"the object {row.key} is not the one on record")
    shown = msgspec.json.encode(
        {
            "mark": Outcome.MARKED,
            "source_type": ours[0].source_type,
            "c2pa": False,
            "signed": False,
            "tool": ours[0].tool,
            "at": clock.now(),
            "reason": None,
        }
    ).decode()
    return MarkedFile(row.id, row.sha256, digest, row.sha256, file.seek(0, 2), shown, None)


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in _read(file):
        digest.update(chunk)
    return digest.hexdigest()


def _read(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while chunk := file.read(_CHUNK):
        yield chunk


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    file.seek(0)
    while chunk := await asyncio.to_thread(file.read, _CHUNK):
        yield chunk
