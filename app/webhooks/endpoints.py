"""Endpoints of webhooks: what their owner can do with them, one function for each use case.

What takes many statements, such as resuming and deleting, is ordered so that a death in between leaves a state in
which the owner can ask again, and from which the rest is done.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from app.core.bell import WEBHOOKS, Bell
from app.core.database.pool import DatabasePool
from app.core.database.rows import Row
from app.core.http_client.addresses import refusal
from app.core.ids import new_id
from app.webhooks.delivery_queries import test_receiver
from app.webhooks.errors import (
    RefusedUrlError,
    RequestWebhookError,
    TooManyWebhooksError,
    WebhookNotFoundError,
)
from app.webhooks.event_types import TEST_TYPE, EventType
from app.webhooks.signing import new_secret
from app.webhooks.states import DeliveryStatus, EndpointKind, EndpointStatus

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments

MOST_ENDPOINTS: Final = 100
"""Registered ones of one owner."""
BATCH: Final = 20_000
"""Deliveries that one statement changes or removes, so that it ends in time however many there are."""

_CREATIONS_IN_TURN: Final = 5_411_002
_COLUMNS: Final = """id, kind, url, events, description, status, reason, failing_since, not_before,
    CASE WHEN previous_until > now() THEN previous_until END AS previous_until, created_at, updated_at"""
_OWN: Final = "id = $1 AND owner_id = $2"

_CREATE: Final = f"""INSERT INTO webhook_endpoints (id, owner_id, url, events, description, secret)
SELECT $1, $2, $3, $4::text[], $5, $6 WHERE {MOST_ENDPOINTS} > (
    SELECT count(*) FROM webhook_endpoints WHERE owner_id = $2 AND kind = '{EndpointKind.REGISTERED}')
RETURNING {_COLUMNS}"""
_BECOMES_ACTIVE: Final = f"($6 = '{EndpointStatus.ACTIVE}' AND status <> '{EndpointStatus.ACTIVE}')"
_UPDATE: Final = f"""UPDATE webhook_endpoints SET
    url = COALESCE($3, url), events = COALESCE($4::text[], events), description = COALESCE($5, description),
    status = COALESCE($6, status), updated_at = now(),
    reason = CASE WHEN {_BECOMES_ACTIVE} THEN NULL WHEN $6 <> status THEN $7::jsonb ELSE reason END,
    failing_since = CASE WHEN {_BECOMES_ACTIVE} OR $3 <> url THEN NULL ELSE failing_since END,
    not_before = CASE WHEN {_BECOMES_ACTIVE} OR $3 <> url THEN NULL ELSE not_before END
WHERE {_OWN} RETURNING {_COLUMNS}"""
_PAUSED_BY_OWNER: Final = json.dumps({"code": "paused_by_owner", "message": "you have paused it"})

_BRING_FORWARD: Final = f"""WITH waiting AS (
    SELECT id FROM webhook_deliveries
    WHERE receiver = $1 AND status = '{DeliveryStatus.PENDING}' AND give_up_at < $2
    LIMIT {BATCH} FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE webhook_deliveries d SET give_up_at = $2,
    next_at = CASE WHEN d.sending THEN d.next_at ELSE LEAST(d.next_at, now()) END
FROM waiting WHERE d.id = waiting.id"""

_ROTATE: Final = f"""UPDATE webhook_endpoints SET secret = $3, updated_at = now(),
    previous_secret = CASE WHEN $4 > interval '0' THEN secret END,
    previous_until = CASE WHEN $4 > interval '0' THEN now() + $4 END
WHERE {_OWN} RETURNING {_COLUMNS}"""

_CLOSE: Final = f"""UPDATE webhook_endpoints SET status = '{EndpointStatus.DISABLED}', updated_at = now(),
    reason = '{{"code": "being_deleted", "message": "you are deleting it"}}'
WHERE {_OWN} AND kind = '{EndpointKind.REGISTERED}' RETURNING id"""
_REMOVE_DELIVERIES: Final = f"""DELETE FROM webhook_deliveries WHERE id IN (
    SELECT id FROM webhook_deliveries WHERE endpoint_id = $1 LIMIT {BATCH} FOR UPDATE SKIP LOCKED)"""

_TEST: Final = f"""INSERT INTO webhook_deliveries (endpoint_id, receiver, type, sequence, at, payload)
SELECT e.id, $5, '{TEST_TYPE}', 0, $3, $4 FROM webhook_endpoints e
WHERE e.id = $1 AND e.owner_id = $2 AND e.kind = '{EndpointKind.REGISTERED}'
FOR KEY SHARE OF e RETURNING id"""


class Endpoint(Row, frozen=True):
    """An endpoint without its secrets; see `WebhookEndpoint`."""

    id: UUID
    kind: str
    url: str | None
    events: list[str]
    description: str
    status: str
    reason: str | None
    """A JSON object."""
    failing_since: datetime | None
    not_before: datetime | None
    previous_until: datetime | None
    """None: only one secret signs."""
    created_at: datetime
    updated_at: datetime


class _Id(Row, frozen=True):
    id: UUID


@dataclass(frozen=True, slots=True)
class WebhookServices:
    """What the use cases work with."""

    db: DatabasePool
    bell: Bell
    allow_private: bool
    """The setting ALLOW_PRIVATE_ADDRESSES."""


@dataclass(frozen=True, slots=True)
class NewEndpoint:
    """What a client registers."""

    url: str
    events: Sequence[EventType]
    description: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What a client changes; None: it stays."""

    url: str | None = None
    events: Sequence[EventType] | None = None
    description: str | None = None
    status: str | None = None
    """Of the EndpointStatus ACTIVE or PAUSED."""


async def create(services: WebhookServices, owner_id: UUID, new: NewEndpoint) -> tuple[Endpoint, str]:
    """Register an endpoint: its row, and its secret, which is handed out here and never again.

    Raises:
        RefusedUrlError: Nothing is sent to such an address.
        TooManyWebhooksError: The owner has MOST_ENDPOINTS.
    """
    _check_url(services, new.url)
    secret = new_secret()
    values = (new_id(), owner_id, new.url, list(new.events), new.description, secret)
    rows = await services.db.fetch_in_turn_as(Endpoint, _CREATIONS_IN_TURN, _CREATE, *values)
    if not rows:
        raise TooManyWebhooksError(f"there are {MOST_ENDPOINTS} webhooks; delete one first")
    return rows[0], secret


async def page(db: DatabasePool, owner_id: UUID, *, before: UUID | None, limit: int) -> Sequence[Endpoint]:
    """Up to `limit` endpoints of an owner, newest first, older than `before`; without their secrets."""
    older = "" if before is None else "AND id < $3"
    values = () if before is None else (before,)
    query = f"SELECT {_COLUMNS} FROM webhook_endpoints WHERE owner_id = $1 {older} ORDER BY id DESC LIMIT $2"
    return await db.fetch_as(Endpoint, query, owner_id, limit, *values)


async def get(db: DatabasePool, owner_id: UUID, endpoint_id: UUID) -> Endpoint:
    """One endpoint.

    Raises:
        WebhookNotFoundError: The owner has none of that id.
    """
    query = f"SELECT {_COLUMNS} FROM webhook_endpoints WHERE {_OWN}"
    endpoint = await db.fetchrow_as(Endpoint, query, endpoint_id, owner_id)
    if endpoint is None:
        raise WebhookNotFoundError(endpoint_id)
    return endpoint


async def update(services: WebhookServices, owner_id: UUID, endpoint_id: UUID, changes: Changes) -> Endpoint:
    """Change an endpoint. Made active again, it gets what waited for it at once, and for three days more.

    Raises:
        WebhookNotFoundError: The owner has none of that id.
        RequestWebhookError: It is the one of requests, which has neither an address nor events of its own.
        RefusedUrlError: Nothing is sent to such an address.
    """
    before = await get(services.db, owner_id, endpoint_id)
    if before.kind == EndpointKind.REQUEST:
        _refuse_for_requests(changes)
    if changes.url is not None:
        _check_url(services, changes.url)
    resumed = changes.status == EndpointStatus.ACTIVE != before.status
    if resumed:
        # First: of what is sent from an endpoint that is active nothing may be given up for the time it was not.
        await _bring_forward(services.db, endpoint_id)
    events = None if changes.events is None else list(changes.events)
    values = (changes.url, events, changes.description, changes.status, _PAUSED_BY_OWNER)
    endpoint = await services.db.fetchrow_as(Endpoint, _UPDATE, endpoint_id, owner_id, *values)
    if endpoint is None:
        raise WebhookNotFoundError(endpoint_id)
    if resumed:
        services.bell.ring(WEBHOOKS)
    return endpoint


async def _bring_forward(db: DatabasePool, endpoint_id: UUID) -> None:
    give_up_at = datetime.now(UTC) + timedelta(days=3)
    while await db.execute(_BRING_FORWARD, str(endpoint_id), give_up_at) != "UPDATE 0":
        pass


async def rotate(db: DatabasePool, owner_id: UUID, endpoint_id: UUID, overlap: timedelta) -> tuple[Endpoint, str]:
    """Give an endpoint another secret; the row, and the secret, which is handed out here and never again.

    Args:
        db: Connections.
        owner_id: Of the endpoint.
        endpoint_id: Which one.
        overlap: For so long the secret before it signs too; 0: it ends now. One that was even older ends now.

    Raises:
        WebhookNotFoundError: The owner has none of that id.
    """
    secret = new_secret()
    endpoint = await db.fetchrow_as(Endpoint, _ROTATE, endpoint_id, owner_id, secret, overlap)
    if endpoint is None:
        raise WebhookNotFoundError(endpoint_id)
    return endpoint, secret


async def delete(db: DatabasePool, owner_id: UUID, endpoint_id: UUID) -> None:
    """Remove an endpoint with its deliveries; what has not been sent will not be.

    Raises:
        WebhookNotFoundError: The owner has none of that id.
        RequestWebhookError: It is the one of requests.
    """
    if await db.fetchrow(_CLOSE, endpoint_id, owner_id) is None:
        await get(db, owner_id, endpoint_id)
        raise RequestWebhookError("the webhook of requests cannot be deleted; leave `webhook_url` out of your requests")
    while await db.execute(_REMOVE_DELIVERIES, endpoint_id) != "DELETE 0":
        pass
    await db.execute(f"DELETE FROM webhook_endpoints WHERE {_OWN}", endpoint_id, owner_id)


async def send_test(services: WebhookServices, owner_id: UUID, endpoint_id: UUID) -> UUID:
    """Send an event of the type TEST_TYPE, whether the endpoint is active or not; the id of its delivery.

    Raises:
        WebhookNotFoundError: The owner has none of that id.
        RequestWebhookError: It is the one of requests, which has no address.
    """
    now = datetime.now(UTC)
    told = {"endpoint_id": str(endpoint_id), "message": "a test: nothing has happened"}
    payload = _json({"type": TEST_TYPE, "timestamp": _rfc3339(now), "sequence": 0, "data": told})
    sent = await services.db.fetchrow_as(_Id, _TEST, endpoint_id, owner_id, now, payload, test_receiver(endpoint_id))
    if sent is None:
        await get(services.db, owner_id, endpoint_id)
        raise RequestWebhookError("the webhook of requests has no address of its own to test")
    services.bell.ring(WEBHOOKS)
    return sent.id


def _check_url(services: WebhookServices, url: str) -> None:
    if (why := refusal(url, allow_private=services.allow_private)) is not None:
        raise RefusedUrlError("url", url, why)


def _refuse_for_requests(changes: Changes) -> None:
    if changes.url is not None or changes.events is not None:
        raise RequestWebhookError("each request brings its own `webhook_url` and `webhook_events`")
    if changes.status == EndpointStatus.PAUSED:
        raise RequestWebhookError(
            "the webhook of requests cannot be paused: it would hold up every receiver that a request names; "
            "leave `webhook_url` out of your requests"
        )


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"))


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
