"""Checks before a request is accepted that the files which its `input` names exist and may be used.

Only the database is read: nothing is fetched, no byte of a file is read.
"""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.core.errors import MOST_FAULTS, brief
from app.jobs import queries
from app.jobs.inputs.errors import InputFileError
from app.jobs.inputs.references import (
    REFERENCE_FORMS,
    InlineData,
    InvalidReferenceError,
    OutputReference,
    Path,
    Reference,
    UploadReference,
    field_name,
    file_places,
    parse_reference,
)
from app.jobs.states import MediaStatus
from app.uploads.accepted import accepted
from app.uploads.errors import UnsupportedFileError
from app.uploads.service import Uploads

MOST_FILES: Final = 32
"""Files that one request names."""


class InputValidator:
    """Checks the files that requests name; one object for a process."""

    def __init__(self, db: DatabasePool, uploads: Uploads, *, allow_private: bool) -> None:
        """Prepare.

        Args:
            db: The database.
            uploads: Files uploaded with POST /files.
            allow_private: The setting ALLOW_PRIVATE_ADDRESSES.
        """
        self._db = db
        self._uploads = uploads
        self._allow_private = allow_private

    async def validate(self, owner_id: UUID, schema: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        """Check every file that an input names; the expiry of uploads starts again.

        Raises:
            InputFileError: One does not exist, is not the owner's, or is not a valid reference.
        """
        named = list(file_places(schema, given))
        if not named:
            return
        if len(named) > MOST_FILES:
            raise InputFileError([_fault(named[MOST_FILES], f"is one file too many: at most {MOST_FILES} are taken")])
        wrong: list[dict[str, Any]] = []
        references: list[tuple[tuple[Path, str], Reference]] = []
        for place in named:
            try:
                references.append((place, _read(place[1], allow_private=self._allow_private)))
            except InvalidReferenceError as fault:
                wrong.append(_fault(place, str(fault)))
        upload_ids = [found.upload_id for _, found in references if isinstance(found, UploadReference)]
        there = await self._uploads.extend(owner_id, upload_ids)
        for place, found in references:
            if (message := await self._fault_of(owner_id, found, there)) is not None:
                wrong.append(_fault(place, message))
        if wrong:
            raise InputFileError(wrong[:MOST_FAULTS])

    async def _fault_of(self, owner_id: UUID, found: Reference, there: set[UUID]) -> str | None:
        if isinstance(found, UploadReference) and found.upload_id not in there:
            return "names no file of yours, or one that has expired; upload it with POST /files"
        if not isinstance(found, OutputReference):
            return None
        row = await queries.content(self._db, found.media_id, owner_id, found.index)
        if row is None:
            return "names no media of yours"
        if row.key is not None:
            return None
        if row.status != MediaStatus.COMPLETED:
            return f"names a media item that is {row.status}; it has files once it is COMPLETED"
        return f"names a media item that has no file {found.index}"


def _read(text: str, *, allow_private: bool) -> Reference:
    found = parse_reference(text, allow_private=allow_private)
    if isinstance(found, InlineData):
        try:
            accepted(found.data)
        except UnsupportedFileError as error:
            raise InvalidReferenceError(f"cannot be used: {error.detail}") from None
    return found


def _fault(place: tuple[Path, str], message: str) -> dict[str, Any]:
    return {"field": field_name(place[0]), "message": message, "given": brief(place[1]), "allowed": REFERENCE_FORMS}
