"""A job that a worker holds, made from the claim."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from app.core import clock
from app.jobs.states import OnUnknown
from app.jobs.transitions.base import Lease
from app.jobs.transitions.claim import ClaimedMedia
from app.jobs.transitions.late_attempts import LateAttempt
from app.media_generator.media_generator_model import Reference, Submission


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """An attempt that may still bring a result."""

    id: UUID
    number: int
    reference: Reference | None
    """The purchase; None: it is unknown whether there is one."""
    created_at: datetime
    """When its intent was committed, by the database's clock."""
    intended_at: float
    """When its intent was committed, by this process's `clock`."""

    told_to_stop: bool = False
    """The provider was asked to stop it when its media had ended."""

    @property
    def age(self) -> float:
        """Seconds since its intent was committed."""
        return clock.seconds() - self.intended_at


def open_attempt(row: ClaimedMedia | LateAttempt) -> OpenAttempt | None:
    """The open attempt in a row; None: there is none."""
    if row.attempt_id is None or row.attempt_number is None or row.attempted_at is None or row.attempt_age is None:
        return None
    return OpenAttempt(
        id=row.attempt_id,
        number=row.attempt_number,
        reference=read_reference(row.reference),
        created_at=row.attempted_at,
        intended_at=clock.seconds() - row.attempt_age.total_seconds(),
        told_to_stop=bool(row.told_to_stop),
    )


def read_reference(stored: str | None) -> Reference | None:
    """A purchase from JSON text, as `Purchase.reference` holds it."""
    return None if stored is None else msgspec.json.decode(stored, type=Reference)


@dataclass(frozen=True, slots=True)
class JobTerms:
    """How a job is to be treated."""

    on_unknown: OnUnknown
    time_left: float | None
    """Seconds until its deadline, at the time of the claim; None: it has none."""
    takeovers: int
    """How many workers died while they held it."""
    trial: bool
    """It may try a provider whose circuit breaker is open."""
    uncounted: int
    """Attempts that do not count: the provider was unavailable, or they were another target's."""
    stored: bool
    """Its files are in the store already: they came after it had ended."""

    @classmethod
    def of(cls, row: ClaimedMedia) -> "JobTerms":
        """From a claimed media."""
        return cls(
            on_unknown=OnUnknown(row.on_unknown),
            time_left=None if row.time_left is None else row.time_left.total_seconds(),
            takeovers=row.takeovers,
            trial=row.trial,
            uncounted=row.uncounted,
            stored=row.stored,
        )


@dataclass(frozen=True, slots=True)
class JobRoute:
    """The route that was requested."""

    name: str
    input: dict[str, Any]
    """As it was requested of the route."""


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed media."""

    lease: Lease
    owner_id: UUID
    prompt: str
    model: str
    """`provider/name`; that of the open attempt, where a route has moved the media on since."""
    input: dict[str, Any]
    number_of_tries: int
    created_at: datetime
    attempt: OpenAttempt | None
    """What a worker before left open."""
    terms: JobTerms
    cancel_requested: asyncio.Event
    """Set when its owner wants it canceled."""
    poll_now: asyncio.Event
    """Set when there is a reason to poll the provider at once; cleared by the poll."""
    claimed_at: float
    """By this process's `clock`."""
    trace: str | None
    """The W3C traceparent of the request; None: it was not traced."""
    route: JobRoute | None = None
    """None: its model was requested by its own name."""

    @property
    def claims(self) -> int:
        """How often it has been claimed: each claim raises the fencing token by one."""
        return self.lease.fencing_token

    @classmethod
    def of(cls, row: ClaimedMedia) -> "Job":
        """From a claimed media."""
        job = cls(
            lease=Lease(row.id, row.fence),
            owner_id=row.owner_id,
            prompt=row.prompt,
            model=row.purchased_as or row.model,
            input=msgspec.json.decode(row.input),
            number_of_tries=row.number_of_tries,
            created_at=row.created_at,
            attempt=open_attempt(row),
            terms=JobTerms.of(row),
            cancel_requested=asyncio.Event(),
            poll_now=asyncio.Event(),
            claimed_at=clock.seconds(),
            trace=row.trace,
            route=None if row.route is None else JobRoute(row.route, msgspec.json.decode(row.route_input or "{}")),
        )
        if row.cancel_asked:
            job.cancel_requested.set()
        return job

    def request_cancel(self) -> None:
        """Its owner wants it canceled."""
        if not self.cancel_requested.is_set():
            self.cancel_requested.set()
            self.poll_now.set()

    @property
    def time_left(self) -> timedelta | None:
        """Until its deadline; None: it has none."""
        if self.terms.time_left is None:
            return None
        return timedelta(seconds=max(self.terms.time_left - (clock.seconds() - self.claimed_at), 0.0))

    @property
    def provider(self) -> str:
        """The first part of the model's name."""
        return self.model.partition("/")[0]

    def submission(self, attempt_id: UUID, number: int, callback_url: str | None) -> Submission:
        """What one attempt submits to the provider."""
        model = self.model.partition("/")[2]
        return Submission(attempt_id, number, model, self.prompt, self.input, callback_url, self.time_left)
