"""Rows of webhooks as what goes over the wire."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from app.core.pagination import Place, encode_cursor, encode_place
from app.webhooks.api.schemas import (
    DeliveryDetailOut,
    DeliveryOut,
    DeliveryPage,
    TryOut,
    WebhookOut,
    WebhookPage,
    WebhookSecretOut,
)
from app.webhooks.states import DeliveryStatus


def webhook(row: asyncpg.Record) -> WebhookOut:
    """An endpoint without its secret."""
    return WebhookOut(**_endpoint(row))


def webhook_with_secret(row: asyncpg.Record, secret: str) -> WebhookSecretOut:
    """An endpoint with its secret."""
    return WebhookSecretOut(**_endpoint(row), secret=secret)


def webhook_page(rows: Sequence[asyncpg.Record], limit: int) -> WebhookPage:
    """Up to `limit` endpoints; one row more says that there is a next page."""
    shown = rows[:limit]
    cursor = encode_cursor(shown[-1]["id"]) if len(rows) > limit else None
    return WebhookPage(items=[webhook(row) for row in shown], next_cursor=cursor)


def delivery_page(rows: Sequence[asyncpg.Record], limit: int) -> DeliveryPage:
    """Up to `limit` deliveries; one row more says that there is a next page."""
    shown = rows[:limit]
    cursor = encode_place(Place(shown[-1]["created_at"], shown[-1]["id"])) if len(rows) > limit else None
    return DeliveryPage(items=[DeliveryOut(**_delivery(row)) for row in shown], next_cursor=cursor)


def delivery(row: asyncpg.Record) -> DeliveryOut:
    """One delivery."""
    return DeliveryOut(**_delivery(row))


def delivery_detail(row: asyncpg.Record, tries: Sequence[asyncpg.Record]) -> DeliveryDetailOut:
    """One delivery with its body and its tries."""
    delivery_id: UUID = row["id"]
    payload = None if row["payload"] is None else msgspec.json.decode(row["payload"])
    tried = [TryOut(**dict(found), request_headers=_headers(delivery_id, found["at"])) for found in tries]
    return DeliveryDetailOut(**_delivery(row), payload=payload, log=tried)


def _endpoint(row: asyncpg.Record) -> dict[str, Any]:
    reason = row["reason"]
    return {**dict(row), "reason": None if reason is None else msgspec.json.decode(reason)}


def _delivery(row: asyncpg.Record) -> dict[str, Any]:
    shown = dict(row)
    shown.pop("payload", None)
    pending = row["status"] == DeliveryStatus.PENDING
    if not pending:
        shown["give_up_at"] = None
    if not pending or row["sending"]:
        shown["next_at"] = None
    return shown


def _headers(delivery_id: UUID, at: datetime) -> dict[str, str]:
    return {"webhook-id": str(delivery_id), "webhook-timestamp": str(int(at.timestamp()))}
