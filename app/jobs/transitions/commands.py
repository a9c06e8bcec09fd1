"""What the functions of `transitions.py` are told: plain values, checked before they get here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from app.idempotency.keys import Key
from app.jobs.billing import UNKNOWN_COST, AttemptCost
from app.jobs.states import DEFAULT_PRIORITY, AttemptStatus, OnUnknown


@dataclass(frozen=True, slots=True)
class Once:
    """The request is made once under this key, as long as the key lives."""

    key: Key
    lifetime: timedelta


@dataclass(frozen=True, slots=True)
class Terms:
    """How a request wants to be treated."""

    priority: int = DEFAULT_PRIORITY
    """0 to 9; 9 is claimed first."""
    time_limit: timedelta | None = None
    """How long it may take; None: as long as it takes."""
    on_unknown: OnUnknown = OnUnknown.HOLD


@dataclass(frozen=True, slots=True)
class Telling:
    """Who is to hear of a request, and under which signs."""

    webhook: str | None = None
    """Its own receiver, a JSON text; see `requests.py` of webhooks."""
    tags: tuple[str, ...] = ()
    trace: str | None = None
    """The W3C traceparent under which it was asked for."""


@dataclass(frozen=True, slots=True)
class OnRoute:
    """The route by which a media is asked for."""

    name: str
    step: int
    """Which of its targets is asked; 0 is the first."""
    input: str
    """As it was asked of the route, a JSON text."""


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
    terms: Terms = field(default_factory=Terms)
    once: Once | None = None
    telling: Telling = field(default_factory=Telling)
    route: OnRoute | None = None
    """None: the model was asked for by its own name."""

    @property
    def provider(self) -> str:
        """The first part of the model's name."""
        return self.model.partition("/")[0]


@dataclass(frozen=True, slots=True)
class ClaimTerms:
    """What a worker tells the database when it asks for jobs."""

    worker_id: UUID
    after: UUID
    """The owner at whom the look along the queue begins; see `claiming.py`."""
    served: UUID
    """The owner whose job it took last: the others come first now."""
    ageing: timedelta
    """The wait that counts as one step of priority."""
    limits: Mapping[str, int]
    """Media in flight at most, by provider."""
    trial_pause: timedelta
    """The time between two trials of a provider that is closed."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A media in a worker's hands: its id and the fencing number of the claim."""

    media_id: UUID
    fence: int


@dataclass(frozen=True, slots=True)
class Intent:
    """What is about to be bought."""

    held: Lease
    attempt_id: UUID
    model: str
    model_version: str | None
    input_hash: str
    estimate: Decimal | None = None
    """What it is expected to cost, in `currency`; None: not known."""
    currency: str = "USD"


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
    seconds: float | None = None
    """Of a video or sound; None: neither, or not probed."""
    poster_key: str | None = None
    """Where a picture of a video lies in the bucket."""


@dataclass(frozen=True, slots=True)
class Completion:
    """Every output of one media, and what the attempt cost."""

    held: Lease
    attempt_id: UUID | None
    """None: the files are stored already, by somebody who came too late."""
    files: tuple[StoredFile, ...]
    bill: AttemptCost = UNKNOWN_COST


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt ended without a result; `error` is a JSON text with `code` and `message`."""

    held: Lease
    attempt_id: UUID | None
    attempt_status: AttemptStatus
    sent: str
    error: str
    retry_after: timedelta | None = None
    """When to try again; None: never."""
    look_after: timedelta | None = None
    """When to look for its outcome again, although the media is over; None: never."""


@dataclass(frozen=True, slots=True)
class Reroute:
    """A media goes on to the next target of its route; `error` is why, `input` a JSON text, like it."""

    held: Lease
    attempt_id: UUID | None
    """None: nothing was tried at the target before."""
    was: str
    """The model before."""
    model: str
    queue: str
    input: str
    step: int
    error: str

    @property
    def row(self) -> tuple[object, ...]:
        """As `route_statements.py` takes it."""
        at, provider = (self.held.media_id, self.held.fence, self.attempt_id), self.model.partition("/")[0]
        return *at, self.was, self.model, provider, self.queue, self.input, self.step, self.error


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """How an attempt ended that its media did not wait for; `error` is a JSON text."""

    attempt_id: UUID
    status: AttemptStatus
    sent: str
    error: str | None = None
    bill: AttemptCost = UNKNOWN_COST


@dataclass(frozen=True, slots=True)
class CancelOutcome:
    """What came of the wish to cancel; see `MoneySpent` for the words."""

    held: Lease
    attempt_id: UUID | None
    money_spent: str | None
    """None: as its attempts so far say."""
    bill: AttemptCost = UNKNOWN_COST


@dataclass(frozen=True, slots=True)
class LateResult:
    """The files of an attempt whose media is over."""

    attempt_id: UUID
    media_id: UUID
    files: tuple[StoredFile, ...]
    bill: AttemptCost = UNKNOWN_COST


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a media is, 0 to 1."""

    held: Lease
    fraction: float
