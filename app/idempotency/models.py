"""The table of idempotency keys."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database.schema import Base


class IdempotencyKey(Base):
    """A client's name for one request, and the media that the first one created."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        # Of the release before, whose sweep deletes by age alone; the next one can drop it.
        Index("ix_idempotency_keys_created_at", "created_at"),
        Index("ix_idempotency_keys_media_id", "media_id"),
        Index("ix_idempotency_keys_without_media", "created_at", postgresql_where=text("media_id IS NULL")),
    )

    owner_id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    """As the client sent it; keys of different owners are independent."""
    fingerprint: Mapped[str]
    """SHA-256 of the request, in hex: a different request with the same key is refused."""
    media_id: Mapped[UUID | None] = mapped_column(ForeignKey("media.id", ondelete="SET NULL"))
    """Null: it was deleted. The key stays for a while, so that a repetition is not taken for a new request."""
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
