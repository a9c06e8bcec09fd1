"""The table of input files. Names and units only."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, Integer, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database.schema import Base

NOW = text("now()")


class Upload(Base):
    """A file that a client has handed in, to be named in an `input`."""

    __tablename__ = "uploads"
    __table_args__ = (UniqueConstraint("owner_id", "sha256"), Index("ix_uploads_expires", "expires_at"))

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID]
    key: Mapped[str]
    """Where it lies in the bucket."""
    name: Mapped[str]
    """As the client calls it."""
    media_type: Mapped[str]
    """Read from the bytes."""
    bytes: Mapped[int]
    width: Mapped[int | None] = mapped_column(Integer)
    """In pixels; null: not a picture."""
    height: Mapped[int | None] = mapped_column(Integer)
    sha256: Mapped[str]
    """Of the bytes, in hex: the same bytes of one owner are kept once."""
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime]
    """From when it may be removed; handing it in again moves it."""
