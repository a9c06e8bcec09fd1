"""Gauges of deliveries and endpoints, read from the tables when metrics are scraped."""

from dataclasses import dataclass
from typing import Final

from app.core.database.pool import DatabasePool
from app.core.database.rows import Row
from app.webhooks.states import DeliveryStatus, EndpointStatus

# ruff: noqa: S608 - the statements are put together from constants of `states.py`


class _Pending(Row, frozen=True):
    status: str
    pending: int
    oldest: float
    """Seconds."""


class _Endpoints(Row, frozen=True):
    status: str
    number: int


_PENDING: Final = f"""SELECT e.status, count(*) AS pending,
    greatest(extract(epoch FROM max(now() - d.next_at)), 0)::float8 AS oldest
FROM webhook_deliveries d JOIN webhook_endpoints e ON e.id = d.endpoint_id
WHERE d.status = '{DeliveryStatus.PENDING}' GROUP BY e.status"""
_ENDPOINTS: Final = "SELECT status, count(*) AS number FROM webhook_endpoints GROUP BY status"


@dataclass(frozen=True, slots=True)
class WebhookGauges:
    """All gauges at one moment."""

    pending: dict[str, int]
    """Deliveries to be sent, by the status of their endpoint."""
    oldest_seconds: float
    """For how long the oldest delivery to an active endpoint has been due."""
    endpoints: dict[str, int]
    """By status."""


async def read(db: DatabasePool) -> WebhookGauges:
    """Read all gauges."""
    waiting = {row.status: row for row in await db.fetch_as(_Pending, _PENDING)}
    endpoints = {row.status: row.number for row in await db.fetch_as(_Endpoints, _ENDPOINTS)}
    active = waiting.get(EndpointStatus.ACTIVE)
    return WebhookGauges(
        pending={status: waiting[status].pending if status in waiting else 0 for status in EndpointStatus},
        oldest_seconds=active.oldest if active is not None else 0.0,
        endpoints={status: endpoints.get(status, 0) for status in EndpointStatus},
    )
