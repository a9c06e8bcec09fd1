"""The tables of the fleet: workers, what is closed or paused, what providers sign with, what is counted."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.core.schema import Base

NOW = text("now()")


class Worker(Base):
    """One worker process; its heartbeat keeps the leases of all its jobs."""

    __tablename__ = "workers"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """New for each start of a process."""
    name: Mapped[str]
    """Host and process id, for people."""
    started_at: Mapped[datetime] = mapped_column(server_default=NOW)
    seen_at: Mapped[datetime] = mapped_column(server_default=NOW)
    """Its last heartbeat, by the database's clock."""
    steady_since: Mapped[datetime] = mapped_column(server_default=NOW)
    """Since when it has reported without a gap; only then may it declare others dead."""


class ProviderGate(Base):
    """A provider from which nothing is bought for a while, or until it is resumed; no row: all is well."""

    __tablename__ = "provider_gates"

    provider: Mapped[str] = mapped_column(primary_key=True)
    code: Mapped[str]
    """The ProviderError that closed it, such as `provider_unauthorized`; or `paused`, by the operator."""
    message: Mapped[str]
    closed_at: Mapped[datetime] = mapped_column(server_default=NOW)
    trial_at: Mapped[datetime]
    """When one media may try whether it is well again; infinity: never by itself."""


class PausedModel(Base):
    """A model from which nothing is bought until the operator resumes it."""

    __tablename__ = "paused_models"

    model: Mapped[str] = mapped_column(primary_key=True)
    """`provider/name`."""
    code: Mapped[str] = mapped_column(server_default=text("'paused'"))
    """Why: `paused` by the operator, or `model_gone`."""
    message: Mapped[str]
    """What clients are told."""
    paused_at: Mapped[datetime] = mapped_column(server_default=NOW)


class ProviderKeys(Base):
    """What the signatures of a provider's callbacks are checked with; fetched by workers, used by the API."""

    __tablename__ = "provider_keys"

    provider: Mapped[str] = mapped_column(primary_key=True)
    keys: Mapped[list[str]] = mapped_column(ARRAY(Text()))
    fetched_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Tally(Base):
    """How often something worth watching has happened, over all processes."""

    __tablename__ = "tallies"

    name: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int]
