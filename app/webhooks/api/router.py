"""The HTTP endpoints of webhooks."""

from datetime import timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.database.pool import DatabasePool
from app.core.http_server.hot_route import HotRoute
from app.core.http_server.problems import problems
from app.core.pagination import decode_cursor, decode_place, encode_place
from app.webhooks import delivery_log, endpoints
from app.webhooks.api import render
from app.webhooks.api.schemas import (
    DeliveryDetailOut,
    DeliveryOut,
    DeliveryPage,
    ReplayIn,
    ReplayOut,
    RotateIn,
    Statuses,
    Types,
    WebhookChangeIn,
    WebhookIn,
    WebhookOut,
    WebhookPage,
    WebhookSecretOut,
)
from app.webhooks.delivery_log import Filter, Range
from app.webhooks.endpoints import Changes, NewEndpoint, WebhookServices

# Not for speed: it limits bodies, and accepts only JSON, so that no other site's page can send one.
router = APIRouter(prefix="/webhooks", tags=["webhooks"], route_class=HotRoute)

Limit = Annotated[int, Query(ge=1, le=100, description="The largest number of items.")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the previous page.")]


def _location(what: str) -> dict[str, Any]:
    return {"Location": {"description": what, "schema": {"type": "string"}}}


_CREATED: Final[dict[int | str, dict[str, Any]]] = {
    201: {"description": "Registered; keep the secret.", "headers": _location("The webhook's address.")}
}
_SENDING: Final[dict[int | str, dict[str, Any]]] = {
    202: {"description": "It will be sent; poll the address in `Location`.", "headers": _location("The delivery.")}
}


@router.post(
    "",
    status_code=201,
    response_model=WebhookSecretOut,
    responses={**_CREATED, **problems(409, 413, 415, 422, 503)},
    summary="Register a webhook",
)
async def create(request: Request, body: WebhookIn) -> Response:
    """From now on events are posted to its `url`, signed according to Standard Webhooks.

    The `secret` is in this response only. If you lose it, find the webhook in the list and rotate its secret, or
    delete it. An owner can have up to 100.
    """
    new = NewEndpoint(body.url, body.events, body.description)
    endpoint, secret = await endpoints.create(_services(request), DEFAULT_OWNER_ID, new)
    shown = render.webhook_with_secret(endpoint, secret)
    return _answer(shown, status=201, location=_path(request, endpoint.id))


@router.get("", response_model=WebhookPage, responses=problems(422, 503), summary="List webhooks, newest first")
async def listing(request: Request, limit: Limit = 20, cursor: Cursor = None) -> Response:
    """Those that you have registered, and, after the first request with a `webhook_url`, one of kind `request`."""
    before = decode_cursor(cursor) if cursor else None
    found = await endpoints.page(_db(request), DEFAULT_OWNER_ID, before=before, limit=limit + 1)
    return _answer(render.webhook_page(found, limit))


@router.get("/{webhook_id:uuid}", response_model=WebhookOut, responses=problems(404, 422, 503), summary="Get a webhook")
async def one(request: Request, webhook_id: UUID) -> Response:
    """With its status, and the reason if it is not active."""
    return _answer(render.webhook(await endpoints.get(_db(request), DEFAULT_OWNER_ID, webhook_id)))


@router.patch(
    "/{webhook_id:uuid}",
    response_model=WebhookOut,
    responses=problems(404, 409, 413, 415, 422, 503),
    summary="Change, pause or resume a webhook",
)
async def update(request: Request, webhook_id: UUID, body: WebhookChangeIn) -> Response:
    """Fields that are left out stay as they are. Set back to `active`, it gets its pending deliveries at once.

    A new `url` also applies to pending deliveries, from their next attempt on; replay them to send them now. Of a
    webhook of kind `request`, only the `description` can be changed.
    """
    changes = Changes(**body.model_dump(exclude_unset=True))
    return _answer(render.webhook(await endpoints.update(_services(request), DEFAULT_OWNER_ID, webhook_id, changes)))


@router.delete(
    "/{webhook_id:uuid}",
    status_code=204,
    response_class=Response,
    responses=problems(404, 409, 422, 503),
    summary="Delete a webhook",
)
async def delete(request: Request, webhook_id: UUID) -> Response:
    """Together with the log of its deliveries; what has not been sent will not be."""
    await endpoints.delete(_db(request), DEFAULT_OWNER_ID, webhook_id)
    return Response(status_code=204)


@router.post(
    "/{webhook_id:uuid}/rotate",
    response_model=WebhookSecretOut,
    responses=problems(404, 413, 415, 422, 503),
    summary="Rotate a webhook's secret",
)
async def rotate(request: Request, webhook_id: UUID, body: RotateIn) -> Response:
    """For a day, or `overlap_seconds`, deliveries carry two signatures: by the new secret and by the previous one.

    The `secret` is in this response only. If you rotate again within that time, the oldest of the three ends at once.
    This is also how you get the secret of the webhook of kind `request`.
    """
    overlap = timedelta(seconds=body.overlap_seconds)
    endpoint, secret = await endpoints.rotate(_db(request), DEFAULT_OWNER_ID, webhook_id, overlap)
    return _answer(render.webhook_with_secret(endpoint, secret))


@router.post(
    "/{webhook_id:uuid}/test",
    status_code=202,
    response_model=DeliveryOut,
    responses={**_SENDING, **problems(404, 409, 422, 503)},
    summary="Send a test event",
)
async def send_test(request: Request, webhook_id: UUID) -> Response:
    """An event of type `webhook.test`, delivered like any other, even while the webhook is paused or disabled.

    So you can check whether a receiver works again before you resume it.
    """
    delivery_id = await endpoints.send_test(_services(request), DEFAULT_OWNER_ID, webhook_id)
    sent = await delivery_log.delivery(_db(request), DEFAULT_OWNER_ID, webhook_id, delivery_id)
    return _answer(render.delivery(sent), status=202, location=_path(request, webhook_id, delivery_id))


@router.get(
    "/{webhook_id:uuid}/deliveries",
    response_model=DeliveryPage,
    responses=problems(404, 422, 503),
    summary="List deliveries, newest first",
)
async def deliveries(  # noqa: PLR0913 - each is a parameter of the query
    request: Request,
    webhook_id: UUID,
    *,
    status: Statuses = None,
    type: Types = None,  # noqa: A002 - its name
    media_id: Annotated[UUID | None, Query(description="Only events of this media.")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:
    """Every event for this webhook, with the status of its delivery."""
    before = decode_place(cursor) if cursor else None
    wanted = Filter(status or (), type or (), media_id)
    found = await delivery_log.deliveries(
        _db(request), DEFAULT_OWNER_ID, webhook_id, wanted, before=before, limit=limit + 1
    )
    return _answer(render.delivery_page(found, limit))


@router.get(
    "/{webhook_id:uuid}/deliveries/{delivery_id:uuid}",
    response_model=DeliveryDetailOut,
    responses=problems(404, 422, 503),
    summary="Get a delivery with its attempts",
)
async def delivery(request: Request, webhook_id: UUID, delivery_id: UUID) -> Response:
    """The body, and each request with the receiver's answer."""
    found = await delivery_log.delivery(_db(request), DEFAULT_OWNER_ID, webhook_id, delivery_id)
    return _answer(render.delivery_detail(found, await delivery_log.attempts(_db(request), delivery_id)))


@router.post(
    "/{webhook_id:uuid}/deliveries/{delivery_id:uuid}/replay",
    status_code=202,
    response_model=DeliveryOut,
    responses={**_SENDING, **problems(404, 409, 422, 503)},
    summary="Replay a delivery",
)
async def replay(request: Request, webhook_id: UUID, delivery_id: UUID) -> Response:
    """Send the same body under the same `webhook-id` again, whatever its status; retried for three days from now.

    A pending delivery is sent now; one that is being sent at this moment is left alone. A paused webhook keeps it
    until it is active; a disabled one answers 409.
    """
    replayed = await delivery_log.replay(_services(request), DEFAULT_OWNER_ID, webhook_id, delivery_id)
    return _answer(render.delivery(replayed), status=202, location=_path(request, webhook_id, delivery_id))


@router.post(
    "/{webhook_id:uuid}/replay",
    status_code=202,
    response_model=ReplayOut,
    responses=problems(404, 409, 413, 415, 422, 503),
    summary="Replay the deliveries of a range of time",
)
async def replay_range(request: Request, webhook_id: UUID, body: ReplayIn) -> Response:
    """Like the replay of one delivery, for up to 10,000; if there are more, repeat the request with `next_cursor`.

    Only existing deliveries are replayed: events from before the webhook was registered, or while it was disabled,
    have none. `GET /media` shows what happened then.
    """
    after = decode_place(body.cursor) if body.cursor else None
    wanted = Range(body.since, body.until, body.statuses, body.types, after)
    replayed = await delivery_log.replay_range(_services(request), DEFAULT_OWNER_ID, webhook_id, wanted)
    cursor = None if replayed.last is None else encode_place(replayed.last)
    return _answer(ReplayOut(replayed=replayed.count, next_cursor=cursor), status=202)


def _db(request: Request) -> DatabasePool:
    db: DatabasePool = request.app.state.runtime.db
    return db


def _services(request: Request) -> WebhookServices:
    allow_private: bool = request.app.state.runtime.settings.allow_private_addresses
    return WebhookServices(_db(request), request.app.state.bell, allow_private)


def _path(request: Request, webhook_id: UUID, delivery_id: UUID | None = None) -> str:
    """With the prefix of a proxy, if there is one."""
    path = f"{request.scope.get('root_path', '')}/webhooks/{webhook_id}"
    return path if delivery_id is None else f"{path}/deliveries/{delivery_id}"


def _answer(shown: BaseModel, *, status: int = 200, location: str | None = None) -> Response:
    headers = None if location is None else {"location": location}
    return Response(shown.model_dump_json(), status_code=status, media_type="application/json", headers=headers)
