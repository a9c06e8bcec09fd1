"""Endpoints and deliveries as what goes over the wire."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

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
from app.webhooks.delivery_log import Delivery, DeliveryAttempt, DeliveryDetail
from app.webhooks.endpoints import Endpoint
from app.webhooks.states import DeliveryStatus


def webhook(endpoint: Endpoint) -> WebhookOut:
    """An endpoint without its secret."""
    return WebhookOut(**_endpoint(endpoint))


def webhook_with_secret(endpoint: Endpoint, secret: str) -> WebhookSecretOut:
    """An endpoint with its secret."""
    return WebhookSecretOut(**_endpoint(endpoint), secret=secret)


def webhook_page(endpoints: Sequence[Endpoint], limit: int) -> WebhookPage:
    """Up to `limit` endpoints; one more in `endpoints` means that there is a next page."""
    shown = endpoints[:limit]
    cursor = encode_cursor(shown[-1].id) if len(endpoints) > limit else None
    return WebhookPage(items=[webhook(endpoint) for endpoint in shown], next_cursor=cursor)


def delivery_page(deliveries: Sequence[Delivery], limit: int) -> DeliveryPage:
    """Up to `limit` deliveries; one more in `deliveries` means that there is a next page."""
    shown = deliveries[:limit]
    cursor = encode_place(Place(shown[-1].created_at, shown[-1].id)) if len(deliveries) > limit else None
    return DeliveryPage(items=[delivery(found) for found in shown], next_cursor=cursor)


def delivery(found: Delivery) -> DeliveryOut:
    """One delivery."""
    return DeliveryOut(**_delivery(found))


def delivery_detail(found: DeliveryDetail, attempts: Sequence[DeliveryAttempt]) -> DeliveryDetailOut:
    """One delivery with its body and its attempts."""
    payload = None if found.payload is None else msgspec.json.decode(found.payload)
    log = [_attempt(found.id, attempt) for attempt in attempts]
    return DeliveryDetailOut(**_delivery(found), payload=payload, log=log)


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    reason = None if endpoint.reason is None else msgspec.json.decode(endpoint.reason)
    return {**msgspec.structs.asdict(endpoint), "reason": reason}


def _delivery(found: Delivery) -> dict[str, Any]:
    shown = msgspec.structs.asdict(found)
    shown.pop("payload", None)
    pending = found.status == DeliveryStatus.PENDING
    if not pending:
        shown["give_up_at"] = None
    if not pending or found.sending:
        shown["next_at"] = None
    return shown


def _attempt(delivery_id: UUID, attempt: DeliveryAttempt) -> TryOut:
    return TryOut(**msgspec.structs.asdict(attempt), request_headers=_headers(delivery_id, attempt.at))


def _headers(delivery_id: UUID, at: datetime) -> dict[str, str]:
    return {"webhook-id": str(delivery_id), "webhook-timestamp": str(int(at.timestamp()))}
