"""The table of input files."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, Integer, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database.schema import Base

NOW = text("now()")


class Upload(Base):
    """A file that a client has uploaded, or that was fetched for it, to be named in an `input`."""

    __tablename__ = "uploads"
    __table_args__ = (UniqueConstraint("owner_id", "sha256"), Index("ix_uploads_expires", "expires_at"))

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID]
    key: Mapped[str]
    """Of the object in the bucket."""
    name: Mapped[str]
    """As the client gives it, without folders."""
    media_type: Mapped[str]
    """Detected from the bytes."""
    bytes: Mapped[int]
    width: Mapped[int | None] = mapped_column(Integer)
    """In pixels, `height` likewise; null: not a picture."""
    height: Mapped[int | None] = mapped_column(Integer)
    sha256: Mapped[str]
    """Of the bytes, in hex: the same bytes of one owner are stored once. See `queries.py` for its other values."""
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime]
    """When it may be removed; another upload of the same bytes extends it."""
