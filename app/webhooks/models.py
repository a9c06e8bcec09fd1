"""The tables of webhooks: endpoints, deliveries, and the log of attempts."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, Integer, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database.schema import Base
from app.webhooks.states import DeliveryStatus, EndpointKind, EndpointStatus

NOW = text("now()")
PENDING = f"status = '{DeliveryStatus.PENDING}'"


def _one_of(column: str, allowed: type[DeliveryStatus | EndpointKind | EndpointStatus]) -> str:
    names = ", ".join(f"'{name}'" for name in sorted(allowed))
    return f"{column} IN ({names})"


class WebhookEndpoint(Base):
    """Where events of one owner are sent."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        CheckConstraint(_one_of("kind", EndpointKind), name="kind"),
        CheckConstraint(_one_of("status", EndpointStatus), name="status"),
        Index("ix_webhook_endpoints_owner", "owner_id", "id"),
        Index(
            "ix_webhook_endpoints_request",
            "owner_id",
            unique=True,
            postgresql_where=text(f"kind = '{EndpointKind.REQUEST}'"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID]
    kind: Mapped[str] = mapped_column(server_default=EndpointKind.REGISTERED)
    """An EndpointKind."""
    url: Mapped[str | None]
    """Null: each delivery has its own."""
    events: Mapped[list[str]] = mapped_column(ARRAY(Text()))
    """Values of EventType."""
    description: Mapped[str] = mapped_column(server_default="")
    status: Mapped[str] = mapped_column(server_default=EndpointStatus.ACTIVE)
    """An EndpointStatus."""
    reason: Mapped[dict[str, Any] | None]
    """Why it is not active: `code` and `message`."""
    secret: Mapped[str]
    """`whsec_` and base64: what deliveries are signed with."""
    previous_secret: Mapped[str | None]
    """Also signs, until `previous_until`."""
    previous_until: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    """When the current series of failures began; null: the last attempt succeeded."""
    not_before: Mapped[datetime | None]
    """Nothing is sent before: it has answered with Retry-After."""
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)


class WebhookDelivery(Base):
    """One event for one endpoint, written together with the media's transition; see `outbox.py`."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint(_one_of("status", DeliveryStatus), name="status"),
        Index("ix_webhook_deliveries_due", "receiver", "next_at", "id", postgresql_where=text(PENDING)),
        Index("ix_webhook_deliveries_next", "next_at", postgresql_where=text(PENDING)),
        Index("ix_webhook_deliveries_endpoint", "endpoint_id", "created_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    """The `webhook-id` of every attempt, so that a receiver can deduplicate."""
    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    receiver: Mapped[str]
    """What circuit breakers count by: the endpoint's id, or owner and origin of a request's own address."""
    url: Mapped[str | None]
    """A request's own address; null: the endpoint's."""
    type: Mapped[str]
    """An EventType, or TEST_TYPE."""
    media_id: Mapped[UUID | None]
    """Null: a test. No foreign key: a delivery outlives its media."""
    sequence: Mapped[int]
    """The id of the event in `media_history`; it increases from event to event of a media item. 0: a test."""
    at: Mapped[datetime] = mapped_column(server_default=NOW)
    """When the event happened."""
    status: Mapped[str] = mapped_column(server_default=DeliveryStatus.PENDING)
    """A DeliveryStatus."""
    tries: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """Attempts started."""
    sending: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether a worker is sending it."""
    next_at: Mapped[datetime] = mapped_column(server_default=NOW)
    """When it is due; while it is being sent: when the lease ends and another worker may send it again."""
    give_up_at: Mapped[datetime] = mapped_column(server_default=text("now() + '3 days'::interval"))
    """An attempt that fails later than this is the last."""
    payload: Mapped[str | None]
    """The body, made for the first attempt and stored with its outcome; later attempts send the same."""
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    finished_at: Mapped[datetime | None]
    """When it was delivered or failed for good."""


class WebhookTry(Base):
    """One request to a receiver, and its answer."""

    __tablename__ = "webhook_tries"
    __table_args__ = (Index("ix_webhook_tries_delivery", "delivery_id", "id"),)

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    delivery_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_deliveries.id", ondelete="CASCADE"))
    number: Mapped[int] = mapped_column(Integer)
    """1 for the first."""
    url: Mapped[str]
    at: Mapped[datetime]
    """When it started; the `webhook-timestamp` that was signed."""
    milliseconds: Mapped[int] = mapped_column(Integer)
    status_code: Mapped[int | None] = mapped_column(Integer)
    """Null: no answer."""
    error: Mapped[str | None]
    """Why it counts as a failure; null: it succeeded."""
    answer: Mapped[str]
    """The first part of the answer's body."""
