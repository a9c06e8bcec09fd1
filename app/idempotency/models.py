"""The table of idempotency keys."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database.schema import Base


class IdempotencyKey(Base):
    """A caller's name for one request, and what came of the first one."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        Index("ix_idempotency_keys_created_at", "created_at"),
        Index("ix_idempotency_keys_media_id", "media_id"),
    )

    owner_id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    """As the caller sent it; owners do not see each other's."""
    fingerprint: Mapped[str]
    """SHA-256 of the request, in hex: another request under the same key is a mistake."""
    media_id: Mapped[UUID] = mapped_column(ForeignKey("media.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
