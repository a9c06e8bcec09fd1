"""Endpoints of webhooks: one function for each use case of their owner.

Use cases of many statements, such as resuming and deleting, are ordered so that a crash in between leaves a state in
which the owner can repeat the request, which then does the rest.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from app.core import clock
from app.core.bell import WEBHOOKS, Bell
from app.core.database.pool import DatabasePool
from app.core.database.rows import Row
from app.core.http_client.addresses import refusal
from app.core.ids import new_id
from app.webhooks.delivery_queries import receiver_of_tests
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

MAX_ENDPOINTS: Final = 100
"""Registered endpoints of one owner."""
BATCH: Final = 20_000
"""Deliveries that one statement changes or deletes, so that it ends in time however many there are."""

_CREATE_LOCK: Final = 5_411_002
_COLUMNS: Final = """id, kind, url, events, description, status, reason, failing_since, not_before,
    CASE WHEN previous_until > now() THEN previous_until END AS previous_until, created_at, updated_at"""
_OWN: Final = "id = $1 AND owner_id = $2"

_CREATE: Final = f"""INSERT INTO webhook_endpoints (id, owner_id, url, events, description, secret)
SELECT $1, $2, $3, $4::text[], $5, $6 WHERE {MAX_ENDPOINTS} > (
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
_PAUSED_BY_OWNER: Final = json.dumps({"code": "paused_by_owner", "message": "paused by its owner"})

_EXPEDITE: Final = f"""WITH waiting AS (
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

_DISABLE: Final = f"""UPDATE webhook_endpoints SET status = '{EndpointStatus.DISABLED}', updated_at = now(),
    reason = '{{"code": "being_deleted", "message": "its owner is deleting it"}}'
WHERE {_OWN} AND kind = '{EndpointKind.REGISTERED}' RETURNING id"""
_DELETE_DELIVERIES: Final = f"""DELETE FROM webhook_deliveries WHERE id IN (
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
    """What the use cases need."""

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
    """What a client changes; None: unchanged."""

    url: str | None = None
    events: Sequence[EventType] | None = None
    description: str | None = None
    status: str | None = None
    """EndpointStatus ACTIVE or PAUSED."""


async def create(services: WebhookServices, owner_id: UUID, new: NewEndpoint) -> tuple[Endpoint, str]:
    """Register an endpoint; the endpoint and its secret, which is returned here and never again.

    Raises:
        RefusedUrlError: Events may not be sent to this address.
        TooManyWebhooksError: The owner has MAX_ENDPOINTS already.
    """
    _check_url(services, new.url)
    secret = new_secret()
    values = (new_id(), owner_id, new.url, list(new.events), new.description, secret)
    rows = await services.db.fetch_in_turn_as(Endpoint, _CREATE_LOCK, _CREATE, *values)
    if not rows:
        raise TooManyWebhooksError(f"there are {MAX_ENDPOINTS} webhooks; delete one first")
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
    """Change an endpoint. When it becomes active, its pending deliveries are sent at once, and retried for three days.

    Raises:
        WebhookNotFoundError: The owner has none of that id.
        RequestWebhookError: It is of kind `request`, which has neither an address nor events of its own.
        RefusedUrlError: Events may not be sent to this address.
    """
    before = await get(services.db, owner_id, endpoint_id)
    if before.kind == EndpointKind.REQUEST:
        _refuse_for_requests(changes)
    if changes.url is not None:
        _check_url(services, changes.url)
    resumed = changes.status == EndpointStatus.ACTIVE != before.status
    if resumed:
        # First: once it is active, no delivery may fail because its time has run out meanwhile.
        await _expedite(services.db, endpoint_id)
    events = None if changes.events is None else list(changes.events)
    values = (changes.url, events, changes.description, changes.status, _PAUSED_BY_OWNER)
    endpoint = await services.db.fetchrow_as(Endpoint, _UPDATE, endpoint_id, owner_id, *values)
    if endpoint is None:
        raise WebhookNotFoundError(endpoint_id)
    if resumed:
        services.bell.ring(WEBHOOKS)
    return endpoint


async def _expedite(db: DatabasePool, endpoint_id: UUID) -> None:
    give_up_at = clock.now() + timedelta(days=3)
    while await db.execute(_EXPEDITE, str(endpoint_id), give_up_at) != "UPDATE 0":
        pass


async def rotate(db: DatabasePool, owner_id: UUID, endpoint_id: UUID, overlap: timedelta) -> tuple[Endpoint, str]:
    """Give an endpoint a new secret; the endpoint and the secret, which is returned here and never again.

    Args:
        db: Connections.
        owner_id: Of the endpoint.
        endpoint_id: Of the endpoint.
        overlap: For how long the previous secret signs, too; 0: not at all. An even older one ends now.

    Raises:
        WebhookNotFoundError: The owner has none of that id.
    """
    secret = new_secret()
    endpoint = await db.fetchrow_as(Endpoint, _ROTATE, endpoint_id, owner_id, secret, overlap)
    if endpoint is None:
        raise WebhookNotFoundError(endpoint_id)
    return endpoint, secret


async def delete(db: DatabasePool, owner_id: UUID, endpoint_id: UUID) -> None:
    """Delete an endpoint with its deliveries; what has not been sent will not be.

    Raises:
        WebhookNotFoundError: The owner has none of that id.
        RequestWebhookError: It is of kind `request`.
    """
    if await db.fetchrow(_DISABLE, endpoint_id, owner_id) is None:
        await get(db, owner_id, endpoint_id)
        raise RequestWebhookError(
            "a webhook of kind `request` cannot be deleted; leave `webhook_url` out of your requests"
        )
    while await db.execute(_DELETE_DELIVERIES, endpoint_id) != "DELETE 0":
        pass
    await db.execute(f"DELETE FROM webhook_endpoints WHERE {_OWN}", endpoint_id, owner_id)


async def send_test(services: WebhookServices, owner_id: UUID, endpoint_id: UUID) -> UUID:
    """Send an event of the type TEST_TYPE, whether the endpoint is active or not; the id of its delivery.

    Raises:
        WebhookNotFoundError: The owner has none of that id.
        RequestWebhookError: It is of kind `request`, which has no address.
    """
    now = clock.now()
    data = {"endpoint_id": str(endpoint_id), "message": "a test event"}
    payload = _json({"type": TEST_TYPE, "timestamp": _rfc3339(now), "sequence": 0, "data": data})
    sent = await services.db.fetchrow_as(
        _Id, _TEST, endpoint_id, owner_id, now, payload, receiver_of_tests(endpoint_id)
    )
    if sent is None:
        await get(services.db, owner_id, endpoint_id)
        raise RequestWebhookError("a webhook of kind `request` has no address of its own to test")
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
            "a webhook of kind `request` cannot be paused: it would hold up every receiver that a request names; "
            "leave `webhook_url` out of your requests"
        )


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"))


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
