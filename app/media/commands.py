"""What the functions of `transitions.py` are told: plain values, checked before they get here."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from app.idempotency.keys import Key
from app.media.states import AttemptStatus


@dataclass(frozen=True, slots=True)
class Once:
    """The request is made once under this key, as long as the key lives."""

    key: Key
    lifetime: timedelta


@dataclass(frozen=True, slots=True)
class NewMedia:
    """A checked request, ready to be written; `input` and `metadata` are JSON texts."""

    id: UUID
    job_id: UUID
    owner_id: UUID
    prompt: str
    model: str
    input: str
    metadata: str
    queue: str
    once: Once | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A media in a worker's hands: its id and the fencing number of the claim."""

    media_id: UUID
    fence: int


@dataclass(frozen=True, slots=True)
class Intent:
    """What is about to be bought."""

    held: Held
    attempt_id: UUID
    model: str
    model_version: str | None
    input_hash: str


@dataclass(frozen=True, slots=True)
class Purchase:
    """A fact: this attempt was taken by the provider under that id; `reference` is a JSON text."""

    attempt_id: UUID
    external_id: str
    reference: str


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One output that lies in the store, hashed and checked."""

    id: UUID
    index: int
    key: str
    media_type: str
    bytes: int
    width: int | None
    height: int | None
    sha256: str


@dataclass(frozen=True, slots=True)
class Completion:
    """Every output of one media, and what the attempt cost in US dollars."""

    held: Held
    attempt_id: UUID
    files: tuple[StoredFile, ...]
    cost: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt ended without a result; `error` is a JSON text with `code` and `message`."""

    held: Held
    attempt_id: UUID | None
    attempt_status: AttemptStatus
    sent: str
    error: str
    retry_after: timedelta | None = None
    """When to try again; None: never."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a media is, 0 to 1."""

    held: Held
    fraction: float
