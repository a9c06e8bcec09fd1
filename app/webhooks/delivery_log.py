"""The log of deliveries: what was sent to an endpoint and what it answered; and replays.

A replay resets the existing row: same id, same body, so that a receiver can deduplicate; attempts keep counting up.
What a worker is sending at this moment is left alone: it would be sent twice at the same time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from app.core.bell import WEBHOOKS
from app.core.database.pool import DatabasePool
from app.core.database.rows import Row
from app.core.pagination import Place
from app.webhooks import endpoints
from app.webhooks.endpoints import WebhookServices
from app.webhooks.errors import DeliveryNotFoundError, WebhookNotActiveError
from app.webhooks.states import DeliveryStatus, EndpointStatus

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments

MAX_REPLAYED: Final = 10_000
"""Deliveries that one request replays; its answer says where to continue."""
MAX_ATTEMPTS_SHOWN: Final = 100


class Delivery(Row, frozen=True):
    """One event for one endpoint; see `WebhookDelivery`."""

    id: UUID
    type: str
    media_id: UUID | None
    sequence: int
    at: datetime
    status: str
    tries: int
    sending: bool
    next_at: datetime
    give_up_at: datetime
    url: str | None
    """Its own, or that of its endpoint."""
    created_at: datetime
    finished_at: datetime | None


class DeliveryDetail(Delivery, frozen=True):
    """A delivery with its body."""

    payload: str | None
    """A JSON object; None: not sent yet."""


class DeliveryAttempt(Row, frozen=True):
    """One request to a receiver, and its answer; see `WebhookTry`."""

    number: int
    url: str
    at: datetime
    milliseconds: int
    status_code: int | None
    error: str | None
    answer: str


class _ReplayedRow(Row, frozen=True):
    """The result of a replay of a range, with its last delivery."""

    replayed: int
    more: bool
    created_at: datetime
    id: UUID


_COLUMNS: Final = """d.id, d.type, d.media_id, d.sequence, d.at, d.status, d.tries, d.sending, d.next_at, d.give_up_at,
    COALESCE(d.url, e.url) AS url, d.created_at, d.finished_at"""
_DELIVERIES: Final = "FROM webhook_deliveries d JOIN webhook_endpoints e ON e.id = d.endpoint_id"
_ONE: Final = f"SELECT {_COLUMNS}, d.payload {_DELIVERIES} WHERE d.id = $1 AND d.endpoint_id = $2 AND e.owner_id = $3"
_TRIES: Final = f"""SELECT {DeliveryAttempt.columns()} FROM webhook_tries
WHERE delivery_id = $1 ORDER BY id DESC LIMIT {MAX_ATTEMPTS_SHOWN}"""

_RESET: Final = f"""status = '{DeliveryStatus.PENDING}', finished_at = NULL, give_up_at = now() + interval '3 days',
    next_at = CASE WHEN d.status = '{DeliveryStatus.PENDING}' THEN LEAST(d.next_at, now()) ELSE now() END"""
_REPLAY: Final = f"""UPDATE webhook_deliveries d SET {_RESET}
WHERE d.id = $1 AND d.endpoint_id = $2 AND NOT d.sending"""

# Locked rows are skipped: two statements that wait for each other's rows would deadlock.
_REPLAY_RANGE: Final = f"""WITH chosen AS (
    SELECT id, created_at FROM webhook_deliveries
    WHERE endpoint_id = $1 AND created_at >= $2 AND created_at < COALESCE($3, now()) AND status = ANY($4::text[])
        AND ($5::text[] IS NULL OR type = ANY($5)) AND ($6::timestamptz IS NULL OR (created_at, id) > ($6, $7::uuid))
        AND NOT sending
    ORDER BY created_at, id LIMIT {MAX_REPLAYED + 1} FOR NO KEY UPDATE SKIP LOCKED
), counted AS (
    SELECT id, created_at, row_number() OVER (ORDER BY created_at, id) AS number FROM chosen
), replayed AS (
    UPDATE webhook_deliveries d SET {_RESET}
    FROM counted WHERE d.id = counted.id AND counted.number <= {MAX_REPLAYED}
    RETURNING d.id, d.created_at
)
SELECT (SELECT count(*) FROM replayed) AS replayed, (SELECT count(*) FROM counted) > {MAX_REPLAYED} AS more,
    created_at, id FROM replayed ORDER BY created_at DESC, id DESC LIMIT 1"""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which deliveries are listed; empty or None: all."""

    statuses: Sequence[DeliveryStatus] = ()
    types: Sequence[str] = ()
    """Each an EventType, or TEST_TYPE."""
    media_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Range:
    """Which deliveries are replayed."""

    since: datetime
    until: datetime | None
    """Before this; None: now."""
    statuses: Sequence[DeliveryStatus]
    types: Sequence[str] | None
    """None: all."""
    after: Place | None = None
    """Where the previous request ended."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """The result of a replay."""

    count: int
    last: Place | None
    """Where to continue; None: that was all."""


async def deliveries(
    db: DatabasePool, owner_id: UUID, endpoint_id: UUID, wanted: Filter, *, before: Place | None, limit: int
) -> Sequence[Delivery]:
    """Up to `limit` deliveries of an endpoint, newest first, older than `before`.

    Raises:
        WebhookNotFoundError: The owner has none of that id.
    """
    await endpoints.get(db, owner_id, endpoint_id)
    conditions, values = ["d.endpoint_id = $1"], list[object]([endpoint_id, limit])
    several = {"d.status = ANY({}::text[])": list(wanted.statuses), "d.type = ANY({}::text[])": list(wanted.types)}
    for condition, value in {**several, "d.media_id = {}": wanted.media_id}.items():
        if value:
            values.append(value)
            conditions.append(condition.format(f"${len(values)}"))
    if before is not None:
        values += before
        conditions.append(f"(d.created_at, d.id) < (${len(values) - 1}, ${len(values)})")
    return await db.fetch_as(
        Delivery,
        f"SELECT {_COLUMNS} {_DELIVERIES} WHERE {' AND '.join(conditions)} "
        "ORDER BY d.created_at DESC, d.id DESC LIMIT $2",
        *values,
    )


async def delivery(db: DatabasePool, owner_id: UUID, endpoint_id: UUID, delivery_id: UUID) -> DeliveryDetail:
    """One delivery with its body.

    Raises:
        WebhookNotFoundError, DeliveryNotFoundError: The owner has none of that id.
    """
    found = await db.fetchrow_as(DeliveryDetail, _ONE, delivery_id, endpoint_id, owner_id)
    if found is None:
        await endpoints.get(db, owner_id, endpoint_id)
        raise DeliveryNotFoundError(delivery_id)
    return found


async def attempts(db: DatabasePool, delivery_id: UUID) -> Sequence[DeliveryAttempt]:
    """The last MAX_ATTEMPTS_SHOWN attempts of a delivery, newest first."""
    return await db.fetch_as(DeliveryAttempt, _TRIES, delivery_id)


async def replay(services: WebhookServices, owner_id: UUID, endpoint_id: UUID, delivery_id: UUID) -> Delivery:
    """Send one delivery again, whatever its status; the delivery as it is then.

    Raises:
        WebhookNotFoundError, DeliveryNotFoundError: The owner has none of that id.
        WebhookNotActiveError: The endpoint is disabled.
    """
    await _check_not_disabled(services.db, owner_id, endpoint_id)
    await services.db.execute(_REPLAY, delivery_id, endpoint_id)
    replayed = await delivery(services.db, owner_id, endpoint_id, delivery_id)
    services.bell.ring(WEBHOOKS)
    return replayed


async def replay_range(services: WebhookServices, owner_id: UUID, endpoint_id: UUID, wanted: Range) -> Replayed:
    """Send the deliveries of a range of time again, oldest first, at most MAX_REPLAYED.

    Raises:
        WebhookNotFoundError: The owner has none of that id.
        WebhookNotActiveError: The endpoint is disabled.
    """
    await _check_not_disabled(services.db, owner_id, endpoint_id)
    types = None if wanted.types is None else list(wanted.types)
    after = wanted.after or (None, None)
    row = await services.db.fetchrow_as(
        _ReplayedRow, _REPLAY_RANGE, endpoint_id, wanted.since, wanted.until, list(wanted.statuses), types, *after
    )
    if row is None:
        return Replayed(0, None)
    services.bell.ring(WEBHOOKS)
    return Replayed(row.replayed, Place(row.created_at, row.id) if row.more else None)


async def _check_not_disabled(db: DatabasePool, owner_id: UUID, endpoint_id: UUID) -> None:
    """Raise for a disabled endpoint; a paused one keeps the deliveries until it is active."""
    endpoint = await endpoints.get(db, owner_id, endpoint_id)
    if endpoint.status == EndpointStatus.DISABLED:
        raise WebhookNotActiveError(endpoint_id, endpoint.status)
