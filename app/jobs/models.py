"""The tables of the engine: names and units. `transitions/` writes the rows of `media` and `attempts`."""

from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Numeric,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database.schema import TXID, Base
from app.jobs.sql import AT_PROVIDER, IS_SUSPECT, MAY_EXPIRE, ROUTED
from app.jobs.states import DEFAULT_PRIORITY, OPEN_ATTEMPT, AttemptStatus, MediaStatus, OnUnknown

NOW = text("now()")


def _one_of(column: str, allowed: type[StrEnum] | frozenset[AttemptStatus]) -> str:
    names = ", ".join(f"'{name}'" for name in sorted(allowed))
    return f"{column} IN ({names})"


class Media(Base):
    """What a client requested: the job is this row."""

    __tablename__ = "media"
    __table_args__ = (
        CheckConstraint(_one_of("status", MediaStatus), name="status"),
        CheckConstraint(_one_of("on_unknown", OnUnknown), name="on_unknown"),
        # A stream is one owner's media of one provider and rank, oldest first; a claim hops from head to head.
        Index(
            "ix_media_due",
            *("queue", "owner_id", "provider", "rank", "next_run", "id"),
            postgresql_where=text("status = 'IN_QUEUE'"),
        ),
        # For pauses: what waits for a model, and what is shelved.
        Index("ix_media_model", "model", "rank", postgresql_where=text("status = 'IN_QUEUE'")),
        Index("ix_media_suspect", "queue", "takeovers", "next_run", postgresql_where=text(IS_SUSPECT)),
        Index("ix_media_at_provider", "provider", postgresql_where=text(AT_PROVIDER)),
        Index("ix_media_deadline", "deadline", postgresql_where=text(MAY_EXPIRE)),
        Index("ix_media_cancel", "worker_id", postgresql_where=text("cancel_asked")),
        Index("ix_media_routed", "id", postgresql_where=text(ROUTED)),
        Index("ix_media_held", "worker_id", postgresql_where=text("status = 'PROCESSING'")),
        Index("ix_media_owner", "owner_id", "id"),
        Index("ix_media_owner_status", "owner_id", "status", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """UUID version 7: sorts by the time of the request."""
    job_id: Mapped[UUID] = mapped_column(unique=True)
    """What clients poll."""
    owner_id: Mapped[UUID]
    """Whose it is. No foreign key: every insert would lock the same owner's row."""
    status: Mapped[str]
    """A MediaStatus; written by `transitions/` alone."""
    prompt: Mapped[str]
    model: Mapped[str]
    """`provider/name`."""
    input: Mapped[dict[str, Any]]
    """The model's own parameters, defaults filled in."""
    meta: Mapped[dict[str, Any]] = mapped_column("metadata")
    """The caller's own object, returned unchanged."""
    provider: Mapped[str]
    """The first part of `model`."""
    queue: Mapped[str]
    """Which slots it needs: `network` or `local`."""
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text(str(DEFAULT_PRIORITY)))
    """0 to 9; 9 is claimed first."""
    rank: Mapped[int] = mapped_column(SmallInteger, server_default=text(str(DEFAULT_PRIORITY)))
    """While IN_QUEUE: its priority, RESUMED, SUSPECT or SHELVED."""
    time_limit: Mapped[timedelta | None]
    """How long it may take from its request on; null: without limit."""
    deadline: Mapped[datetime | None]
    """When it ends with `deadline_exceeded`."""
    on_unknown: Mapped[str] = mapped_column(server_default=OnUnknown.HOLD)
    """An OnUnknown."""
    next_run: Mapped[datetime] = mapped_column(server_default=NOW)
    """From when a worker may claim it, while it is IN_QUEUE."""
    number_of_tries: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """Attempts so far."""
    progress: Mapped[float | None]
    """0 to 1, as the provider reports; null: unknown."""
    error: Mapped[dict[str, Any] | None]
    """`code` and `message` of the last failure; null once completed."""
    worker_id: Mapped[UUID | None]
    """The worker that holds it; null unless PROCESSING."""
    fence: Mapped[int] = mapped_column(server_default=text("0"))
    """Rises with each claim; a worker's write names the number it got."""
    takeovers: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """How many workers died while they held it."""
    cancel_asked: Mapped[bool] = mapped_column(server_default=text("false"))
    """Its owner has requested a cancel, whose result is not known yet."""
    webhook: Mapped[dict[str, Any] | None]
    """The request's own receiver: `url`, `events`, `receiver`; null: it has none."""
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text()), server_default=text("'{}'"))
    """The caller's own tags, to filter by."""
    route: Mapped[str | None]
    """The requested route; `model` is its target at present. Null: the model was requested by its own name."""
    route_step: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    """Which of the route's targets; 0 is the first."""
    route_input: Mapped[dict[str, Any] | None]
    """The input as it was requested of the route, from which that of each target is made."""
    trace: Mapped[str | None]
    """The W3C traceparent of the request; null: it is not traced."""
    waits_for: Mapped[dict[str, Any] | None]
    """While PROCESSING: `code` and `message` of what holds it up; null: nothing but its provider's work."""
    warnings: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB())
    """What its owner should know of the result: entries with `code` and `message`; null: nothing."""
    cancel: Mapped[dict[str, Any] | None]
    """The result of a cancel request: `answer`, `money_spent`; null: there was none."""
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)
    started_at: Mapped[datetime | None]
    """When a worker first claimed it."""
    completed_at: Mapped[datetime | None]
    """When it reached a final state."""


class Attempt(Base):
    """One attempt at a provider: the intent, the outcome, the cost."""

    __tablename__ = "attempts"
    __table_args__ = (
        CheckConstraint(_one_of("status", AttemptStatus), name="status"),
        UniqueConstraint("media_id", "number"),
        Index(
            "ix_attempts_open",
            "media_id",
            unique=True,
            postgresql_where=text(_one_of("status", OPEN_ATTEMPT)),
        ),
        Index(
            "uq_attempts_purchase",
            text("split_part(model, '/', 1)"),
            "external_id",
            unique=True,
            postgresql_where=text("external_id IS NOT NULL"),
        ),
        Index("ix_attempts_called_back", "media_id", postgresql_where=text("called_back")),
        Index("ix_attempts_look", "look_at", postgresql_where=text("look_at IS NOT NULL")),
        Index("ix_attempts_unknown", "media_id", postgresql_where=text(f"status = '{AttemptStatus.UNKNOWN}'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """Made by the worker before it calls the provider; the provider's idempotency key where it takes one."""
    media_id: Mapped[UUID] = mapped_column(ForeignKey("media.id", ondelete="CASCADE"))
    number: Mapped[int] = mapped_column(Integer)
    """1 for the first attempt."""
    status: Mapped[str]
    """An AttemptStatus; written by `transitions/` alone."""
    model: Mapped[str]
    """`provider/name` as it was submitted."""
    model_version: Mapped[str | None]
    input_hash: Mapped[str]
    """SHA-256 in hex of what was submitted, as far as the provider can tell requests apart."""
    external_id: Mapped[str | None]
    """The provider's id of it, which belongs to this attempt alone; null: not known yet."""
    reference: Mapped[dict[str, Any] | None]
    """What the provider's adapter needs to poll, cancel or fetch it, in any process."""
    sent: Mapped[str | None]
    """After a failure: whether the request reached the provider, NO, YES or UNKNOWN."""
    error: Mapped[dict[str, Any] | None]
    cost: Mapped[Decimal | None] = mapped_column(Numeric(18, 6))
    """What it cost, in `currency`; null: unknown."""
    estimate: Mapped[Decimal | None] = mapped_column(Numeric(18, 6))
    """The expected cost when it was submitted, in `currency`; null: unknown."""
    currency: Mapped[str] = mapped_column(server_default=text("'USD'"))
    cost_basis: Mapped[str | None]
    """Where `cost` comes from: `reported` by the provider, or `computed` from `units`."""
    units: Mapped[dict[str, Any] | None]
    """What it was billed by, such as `{"second": 1.25}`, as the provider reports."""
    answer: Mapped[str | None]
    """The key in the bucket of what the provider answered, byte for byte; null: nothing was kept."""
    copied: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB())
    """Outputs that are in the bucket while others are still to be fetched; null: none were left behind."""
    called_back: Mapped[bool] = mapped_column(server_default=text("false"))
    """The provider has called back, and no worker has picked that up yet."""
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    look_at: Mapped[datetime | None]
    """When it is checked next although its media has ended; null: it is not followed up."""
    stop: Mapped[bool] = mapped_column(server_default=text("false"))
    """The provider is to be asked to stop it."""
    told_to_stop: Mapped[bool] = mapped_column(server_default=text("false"))
    """The provider has been asked to stop it."""
    looks: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """Checks in a row that were started and did not finish."""
    submitted_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class MediaHistory(Base):
    """One row for each event of a media item."""

    __tablename__ = "media_history"
    __table_args__ = (
        Index("ix_media_history_media", "media_id", "id"),
        Index("ix_media_history_owner", "owner_id", "txid", "id"),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    media_id: Mapped[UUID] = mapped_column(ForeignKey("media.id", ondelete="CASCADE"))
    owner_id: Mapped[UUID | None]
    """The media's owner; null: written before there were event streams."""
    txid: Mapped[int] = mapped_column(server_default=TXID)
    """The transaction that wrote it: rows become visible in this order, not in the order of their ids."""
    event: Mapped[str]
    """A MediaEvent."""
    status: Mapped[str]
    """The status it led to."""
    at: Mapped[datetime] = mapped_column(server_default=NOW)
    worker_id: Mapped[UUID | None]
    """The worker that made it happen; null: the API or a sweep."""
    detail: Mapped[dict[str, Any] | None]
    """Details, such as the error of a failed attempt."""


class File(Base):
    """One output in our store."""

    __tablename__ = "files"
    __table_args__ = (
        UniqueConstraint("media_id", "index"),
        # For strangers who ask whether a file is ours.
        Index("ix_files_sha256", "sha256"),
        Index("ix_files_source_sha256", "source_sha256", postgresql_where=text("source_sha256 <> sha256")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    media_id: Mapped[UUID] = mapped_column(ForeignKey("media.id", ondelete="CASCADE"))
    index: Mapped[int] = mapped_column(Integer)
    """0 for the first output."""
    key: Mapped[str]
    """Its key in the bucket."""
    media_type: Mapped[str]
    """Read from the bytes, such as `image/png`."""
    bytes: Mapped[int]
    width: Mapped[int | None] = mapped_column(Integer)
    """In pixels; null: neither picture nor video, or not probed."""
    height: Mapped[int | None] = mapped_column(Integer)
    seconds: Mapped[float | None]
    """Of a video or sound; null: neither, or not probed."""
    poster_key: Mapped[str | None]
    """The key of a video's poster in the bucket; null: there is none."""
    sha256: Mapped[str]
    """Of the bytes that are served, in hex."""
    source_sha256: Mapped[str | None]
    """Of the bytes that came from the provider, before the mark of origin; null: stored by a release before marks."""
    provenance: Mapped[dict[str, Any] | None]
    """What became of the mark, as `ProvenanceOut` shows it; null: marks were off."""
    warnings: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB())
    """What its owner should know of this file: entries with `code` and `message`; null: nothing."""
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


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


class ProviderCircuit(Base):
    """A provider to which nothing is submitted for a while, or until it is resumed; no row: it is available."""

    __tablename__ = "provider_gates"

    provider: Mapped[str] = mapped_column(primary_key=True)
    code: Mapped[str]
    """The ProviderError that opened the breaker, such as `provider_unauthorized`; `paused`: by the operator."""
    message: Mapped[str]
    closed_at: Mapped[datetime] = mapped_column(server_default=NOW)
    trial_at: Mapped[datetime]
    """When one media may try whether it is available again; infinity: never."""


class PausedModel(Base):
    """A model to which nothing is submitted until the operator resumes it."""

    __tablename__ = "paused_models"

    model: Mapped[str] = mapped_column(primary_key=True)
    """`provider/name`."""
    code: Mapped[str] = mapped_column(server_default=text("'paused'"))
    """Why: `paused` by the operator, or `model_gone`."""
    message: Mapped[str]
    """What clients read."""
    paused_at: Mapped[datetime] = mapped_column(server_default=NOW)


class ProviderKeys(Base):
    """The keys that a provider's callbacks are verified with; fetched by workers, used by the API."""

    __tablename__ = "provider_keys"

    provider: Mapped[str] = mapped_column(primary_key=True)
    keys: Mapped[list[str]] = mapped_column(ARRAY(Text()))
    fetched_at: Mapped[datetime] = mapped_column(server_default=NOW)


class PersistedCount(Base):
    """How often something worth watching has happened, over all processes."""

    __tablename__ = "tallies"

    name: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int]
