"""Where a file comes from: the marks of a media item's files, and the check of any file."""

from typing import Any
from uuid import UUID

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.http_server.hot_route import HotRoute, limited
from app.core.http_server.problems import problems
from app.media import service
from app.media.api.dependencies import media_dependencies
from app.media.api.schemas import ProvenanceOut
from app.media.provenance import CheckedFile
from app.provenance.mark import SourceType

# Not for speed: the body is streamed, and nothing reads it before.
router = APIRouter(tags=["provenance"], route_class=HotRoute)


class FileProvenanceOut(BaseModel):
    """Where one file comes from."""

    index: int
    media_type: str
    sha256: str = Field(description="Of the bytes that are served, in hex.")
    source_sha256: str | None = Field(description="Of the bytes that came from the provider; null: not recorded then.")
    provenance: ProvenanceOut | None = Field(description="Its mark of origin; null: marks were switched off.")


class MediaProvenanceOut(BaseModel):
    """Where the files of a media item come from."""

    media_id: UUID
    model: str
    files: list[FileProvenanceOut]


class MarkOut(BaseModel):
    """A mark of Fleek's that is in a file."""

    source_type: SourceType
    tool: str
    model: str
    media_id: UUID
    holds: bool = Field(
        description="Whether this very file is on record as one of this media item. False: it was changed since, or "
        "the mark was copied into it, or it was deleted here."
    )


class ManifestOut(BaseModel):
    """The C2PA manifest of a file; verified where the extra `c2pa` is installed. Nothing is fetched for it."""

    present: bool
    valid: bool | None = Field(
        description="Whether its signature is one, and this very file is the one that was signed; null: not verified."
    )
    issuer: str | None = Field(description="Who its certificate says has signed; anybody can make one that says so.")
    signed_at: str | None = Field(description="What a time-stamp authority says; null: none was asked.")
    trusted: bool | None = Field(
        description="Whether its certificate leads to one of the operator's trust list; null: there is no such list."
    )
    source_types: list[str] = Field(description="Every `digitalSourceType` in its actions.")
    problem: str | None = Field(description="What does not hold, or why it was not verified; null: nothing.")


class CheckOut(BaseModel):
    """What is known of a file."""

    is_ours: bool = Field(description="Whether one of the two hashes is on record here.")
    media_id: UUID | None = Field(description="The media item that it belongs to; null: it is not ours.")
    sha256: str = Field(description="Of all bytes, in hex.")
    source_sha256: str = Field(description="The same without a mark of Fleek's.")
    bytes: int
    format: str | None = Field(description="Null: one that has no place for a mark.")
    marks: list[MarkOut]
    source_types: list[str] = Field(description="Every `Iptc4xmpExt:DigitalSourceType` in it, whoever wrote it.")
    c2pa: ManifestOut
    problem: str | None = Field(description="Why the file could not be read to its end; null: it was.")


_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.get(
    "/media/{media_id}/provenance",
    response_model=MediaProvenanceOut,
    responses=problems(404, 422, 503),
    summary="Where the files of a media item come from",
)
async def of_media(request: Request, media_id: UUID) -> Response:
    """The mark of origin of each file, and both hashes: evidence for whoever has to show that outputs are marked."""
    dependencies = media_dependencies(request)
    row = await service.media(dependencies.services, DEFAULT_OWNER_ID, media_id)
    files: list[Any] = [] if row.files is None else msgspec.json.decode(row.files)
    found = [FileProvenanceOut.model_validate(file) for file in files]
    return _json(MediaProvenanceOut(media_id=row.id, model=row.model, files=found))


@router.post(
    "/provenance/check",
    response_model=CheckOut,
    responses=problems(413, 422, 429, 503),
    summary="Is this file ours, and what does it say of its origin?",
    openapi_extra=_BODY,
)
async def check(request: Request) -> Response:
    """The body is any file, as it is. It is not kept. One client has so many checks a minute.

    Marks and manifests are what the file says of itself; `is_ours` and `holds` are what is on record here.
    """
    dependencies = media_dependencies(request)
    await dependencies.check_limit.count(request)
    most = dependencies.max_output_bytes
    return _json(_shown(await dependencies.provenance.check(lambda: limited(request.stream(), most))))


def _shown(checked: CheckedFile) -> CheckOut:
    origin, marks = checked.origin, checked.origin.marks
    return CheckOut(
        is_ours=checked.known is not None,
        media_id=None if checked.known is None else checked.known.media_id,
        sha256=origin.sha256,
        source_sha256=origin.source_sha256,
        bytes=origin.bytes,
        format=marks.format,
        marks=[
            MarkOut(
                source_type=one.source_type,
                tool=one.tool,
                model=one.model,
                media_id=one.media_id,
                holds=checked.holds(one.media_id),
            )
            for one in marks.ours
        ],
        source_types=list(marks.source_types),
        c2pa=ManifestOut.model_validate(origin.manifest, from_attributes=True),
        problem=marks.problem or None,
    )


def _json(shown: BaseModel) -> Response:
    return Response(shown.model_dump_json(), media_type="application/json")
