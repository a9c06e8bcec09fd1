"""The permanent URL of a file: GET leads to its bytes, HEAD describes them."""

from email.utils import format_datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.http_server.hot_route import HotRoute
from app.core.http_server.problems import problems
from app.jobs.states import Rendition
from app.media import service
from app.media.api.dependencies import media_dependencies
from app.media.api.response_cache import is_known
from app.media.api.schemas import ContentOut

router = APIRouter(prefix="/media", tags=["media"], route_class=HotRoute)

JSON: Final = "application/json"
INDEX_LIMIT: Final = 1_000
_HEADERS: Final = {"cache-control": "private, no-store", "vary": "accept"}
"""Of the permanent URL, whatever may be kept of the file itself: it leads to another signed URL tomorrow."""
Index = Annotated[int, Query(ge=0, lt=INDEX_LIMIT, description="Which output; 0 is the first.")]
WantedRendition = Annotated[Rendition | None, Query(description="`poster`: a still image of a video.")]


def _text(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}


_DESCRIBED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The headers with which GET sends the bytes, in the end.",
        "headers": {
            "Content-Type": _text("Found in the bytes."),
            "Content-Length": _text("In bytes."),
            "ETag": _text("The same as with the bytes."),
            "Last-Modified": _text("When it was stored."),
            "Accept-Ranges": _text("`bytes`: GET may ask for a part of it, by `Range`."),
        },
    },
    304: {"description": "You have it: its ETag is the one you sent in If-None-Match."},
}


@router.get(
    "/content/{media_id}",
    status_code=307,
    response_class=Response,
    responses={
        307: {
            "description": "Redirects to a signed URL of the file.",
            "headers": {"Location": _text("The signed URL.")},
        },
        200: {"description": "For `Accept: application/json`.", "model": ContentOut},
        **problems(404, 409, 422, 503),
    },
    summary="A file of a media item",
)
async def content(request: Request, media_id: UUID, index: Index = 0, rendition: WantedRendition = None) -> Response:
    """The permanent URL of a file. It redirects to a signed URL that expires; do not store that one.

    A `Range` that you send reaches the bytes through the redirect.
    """
    dependencies = media_dependencies(request)
    signed = await service.content_url(dependencies.services, DEFAULT_OWNER_ID, media_id, index, rendition)
    if JSON in request.headers.get("accept", ""):
        body = msgspec.json.encode({"url": signed.url, "expires_at": signed.expires_at})
        return Response(body, media_type=JSON, headers=_HEADERS)
    return Response(status_code=307, headers={"location": signed.url, **_HEADERS})


@router.head(
    "/content/{media_id}",
    response_class=Response,
    responses={**_DESCRIBED, **problems(404, 409, 422, 503)},
    summary="Describe a file of a media item",
)
async def describe(request: Request, media_id: UUID, index: Index = 0, rendition: WantedRendition = None) -> Response:
    """Type, length and ETag of the file, without a redirect: a signed URL is for GET only."""
    if JSON in request.headers.get("accept", ""):
        return await content(request, media_id, index, rendition)
    services = media_dependencies(request).services
    head = await service.content_head(services, DEFAULT_OWNER_ID, media_id, index, rendition)
    headers = {**_HEADERS, "last-modified": format_datetime(head.modified, usegmt=True)}
    if head.etag is not None:
        headers["etag"] = head.etag
        if is_known(request, head.etag):
            return Response(status_code=304, headers=headers)
    headers |= {"content-type": head.media_type, "content-length": str(head.bytes), "accept-ranges": "bytes"}
    return Response(headers=headers)
