"""The table of log events of jobs, written by `recorder.py`."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Identity, Index, Integer, text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database.schema import TXID, Base


class Log(Base):
    """One log event of one job. No foreign key: writing it must neither wait for its media nor fail with it."""

    __tablename__ = "logs"
    __table_args__ = (Index("ix_logs_media", "media_id", "id"),)

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    """When it happened, by the clock of the process that logged it."""
    txid: Mapped[int] = mapped_column(server_default=TXID)
    """The transaction that wrote it; see `media_history`."""
    level: Mapped[str]
    """debug, info, warning or error."""
    event: Mapped[str]
    """A constant name, such as `output_stored`."""
    media_id: Mapped[UUID]
    attempt: Mapped[int | None] = mapped_column(Integer)
    """The number of the attempt it belongs to."""
    fields: Mapped[dict[str, Any]]
    """The other fields of the log event."""
