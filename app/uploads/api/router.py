"""The HTTP endpoints of input files."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.errors import FleekError
from app.core.http_server.hot_route import HotRoute
from app.core.http_server.problems import MEDIA_TYPE, problems
from app.core.http_server.timed_body import RequestTimeoutError
from app.core.pagination import decode_cursor, encode_cursor
from app.uploads.api.schemas import UploadOut, UploadPage
from app.uploads.errors import FileTooLargeError
from app.uploads.form import FIELD, MAX_OVERHEAD_BYTES, FileForm
from app.uploads.queries import StoredFile
from app.uploads.service import Uploads

# Not for speed: the body is streamed, and nothing reads it before.
router = APIRouter(prefix="/files", tags=["files"], route_class=HotRoute)

DRAIN_SECONDS: Final = 3.0
"""How long the rest of a refused body is read: many clients read no answer before they have sent everything."""
DRAIN_BYTES: Final = 16 * 1024 * 1024


def _problem(status: int, code: str, title: str, detail: str) -> dict[str, Any]:
    shown = {"type": f"urn:fleek:problem:{code}", "title": title, "status": status, "detail": detail, "code": code}
    return {"summary": title, "value": shown}


_EXAMPLES: Final[dict[int, dict[str, Any]]] = {
    408: {
        "slow": _problem(408, "request_timeout", "Request too slow", "a body may pause for 30 seconds"),
        "long": _problem(408, "upload_timeout", "Upload too slow", "the upload took more than 900 seconds"),
    },
    413: {"large": _problem(413, "file_too_large", "File too large", "the file is larger than 104857600 bytes")},
    415: {
        "file": _problem(415, "unsupported_file", "Unsupported file", "the bytes are not a picture, video or sound"),
        "form": _problem(415, "unsupported_media_type", "Unsupported media type", "send a form with the file"),
    },
    422: {
        "form": _problem(422, "invalid_form", "Invalid form", "the form is empty"),
        "pixels": _problem(422, "picture_too_large", "Picture too large", "the picture is 20000x20000"),
    },
    503: {
        "busy": _problem(503, "uploads_busy", "Too many uploads at once", "8 uploads are in progress"),
        "store": _problem(503, "store_unavailable", "The store does not answer", "the store does not accept files now"),
    },
}
_TITLES: Final = {408: "Request timeout"}


def _refusals() -> dict[int | str, dict[str, Any]]:
    found = problems(*_EXAMPLES)
    for status, examples in _EXAMPLES.items():
        found[status]["content"][MEDIA_TYPE]["examples"] = examples
        found[status]["description"] = _TITLES.get(status, found[status]["description"])
    return found


_LOCATION: Final = {"Location": {"description": "The file's address.", "schema": {"type": "string"}}}
_FORM: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "additionalProperties": False,
                    "properties": {FIELD: {"type": "string", "format": "binary", "description": "The one file."}},
                }
            }
        },
    }
}


@router.post(
    "",
    status_code=201,
    response_model=UploadOut,
    responses={
        201: {"description": "Kept until `expires_at`.", "headers": _LOCATION},
        200: {"description": "You have uploaded the same bytes before.", "model": UploadOut, "headers": _LOCATION},
        **_refusals(),
    },
    summary="Upload an input file",
    openapi_extra=_FORM,
)
async def create(request: Request) -> Response:
    """A form with one file, a picture, video or sound; its `uri` can then be used in an `input`.

    The type is detected from the bytes. The same bytes are stored once: uploading them again only extends `expires_at`.
    """
    uploads = _uploads(request)
    body = _body(request, uploads.limits.max_bytes + MAX_OVERHEAD_BYTES)
    try:
        form = FileForm(request.headers.get("content-type", ""), body)
        name = await form.begin()
        received = await uploads.save(DEFAULT_OWNER_ID, name, form.chunks())
    except FleekError:
        await _drain(request)
        raise
    path = f"{request.scope.get('root_path', '')}/files/{received.id}"
    return _answer(_shown(received), status=201 if received.fresh else 200, headers={"location": path})


@router.get("", response_model=UploadPage, responses=problems(422, 503), summary="List input files, newest first")
async def listing(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100, description="The largest number of items.")] = 20,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the previous page.")] = None,
) -> Response:
    """Your files that have not expired."""
    before = decode_cursor(cursor) if cursor else None
    files = await _uploads(request).page(DEFAULT_OWNER_ID, before=before, limit=limit + 1)
    following = encode_cursor(files[limit - 1].id) if len(files) > limit else None
    return _answer(UploadPage(items=[_shown(file) for file in files[:limit]], next_cursor=following))


@router.get("/{file_id:uuid}", response_model=UploadOut, responses=problems(404, 422, 503), summary="Get an input file")
async def one(request: Request, file_id: UUID) -> Response:
    """Its metadata; the bytes cannot be downloaded again."""
    return _answer(_shown(await _uploads(request).get(DEFAULT_OWNER_ID, file_id)))


@router.delete(
    "/{file_id:uuid}",
    status_code=204,
    response_class=Response,
    responses=problems(404, 422, 503),
    summary="Delete an input file",
)
async def delete(request: Request, file_id: UUID) -> Response:
    """At once; a media item that names it and has not started yet ends with `input_refused`."""
    await _uploads(request).delete(DEFAULT_OWNER_ID, file_id)
    return Response(status_code=204)


def _uploads(request: Request) -> Uploads:
    uploads: Uploads = request.app.state.media.services.uploads
    return uploads


async def _body(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The chunks of the body.

    Raises:
        FileTooLargeError: Its Content-Length, or the body itself, is larger than `limit`.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise FileTooLargeError(f"the form has {announced} bytes, the limit is {limit}")
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise FileTooLargeError(f"the form is larger than {limit} bytes")
        if chunk:
            yield chunk


async def _drain(request: Request) -> None:
    if request.headers.get("expect", "").lower() == "100-continue":
        return  # the client waits before it sends the body
    size = 0
    # If the body was read completely, the stream raises a RuntimeError.
    with contextlib.suppress(TimeoutError, RuntimeError, ClientDisconnect, RequestTimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size >= DRAIN_BYTES:
                    return


def _shown(file: StoredFile) -> UploadOut:
    return UploadOut(
        id=file.id,
        uri=f"file:{file.id}",
        name=file.name,
        media_type=file.media_type,
        bytes=file.bytes,
        width=file.width,
        height=file.height,
        sha256=file.sha256,
        created_at=file.created_at.astimezone(UTC),
        expires_at=file.expires_at.astimezone(UTC),
    )


def _answer(shown: BaseModel, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(shown.model_dump_json(), status_code=status, media_type="application/json", headers=headers)
