"""A job in a worker's hands, as the claim answered it."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from app.core import clock
from app.jobs.states import OnUnknown
from app.jobs.transitions.commands import Lease
from app.media_generator.media_generator_model import Reference, Submission


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """An attempt that may still bring a result."""

    id: UUID
    number: int
    reference: Reference | None
    """The purchase; None: not known whether there is one."""
    created_at: datetime
    """Not later than its intent was committed, by the database's clock."""
    begun: float
    """When its intent was committed, by this process's `clock`."""

    told_to_stop: bool = False
    """We have told the provider that nobody waits for it, when its media was over."""

    @property
    def age(self) -> float:
        """Seconds since its intent was committed."""
        return clock.seconds() - self.begun


def open_attempt(row: asyncpg.Record) -> OpenAttempt:
    """From a row with the columns of an attempt, as claims and `late.take` answer them."""
    age: timedelta = row["attempt_age"]
    return OpenAttempt(
        id=row["attempt_id"],
        number=row["attempt_number"],
        reference=read_reference(row["reference"]),
        created_at=row["attempted_at"],
        begun=clock.seconds() - age.total_seconds(),
        told_to_stop=row["told_to_stop"],
    )


def read_reference(stored: str | None) -> Reference | None:
    """A purchase as `Purchase.reference` holds it."""
    return None if stored is None else msgspec.json.decode(stored, type=Reference)


@dataclass(frozen=True, slots=True)
class JobTerms:
    """What else a worker must know of a media."""

    on_unknown: OnUnknown
    time_left: float | None
    """Seconds until its deadline, at the time of the claim; None: it has none."""
    takeovers: int
    """How many workers died with it in hand."""
    trial: bool
    """It may try whether a closed provider is well again."""
    spared: int
    """Attempts that are not held against it: its provider sold nothing to anybody, or it was another target's."""
    stored: bool
    """Its files are in the store already: they came after it was over."""

    @classmethod
    def of(cls, row: asyncpg.Record) -> "JobTerms":
        """From a row that a claim answered."""
        left: timedelta | None = row["time_left"]
        return cls(
            on_unknown=OnUnknown(row["on_unknown"]),
            time_left=None if left is None else left.total_seconds(),
            takeovers=row["takeovers"],
            trial=row["trial"],
            spared=row["spared"],
            stored=row["stored"],
        )


@dataclass(frozen=True, slots=True)
class JobRoute:
    """The route by which a media was asked for."""

    name: str
    input: dict[str, Any]
    """As it was asked of the route."""


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed media."""

    held: Lease
    owner_id: UUID
    prompt: str
    model: str
    """`provider/name`; of an open attempt its own, where a route has led the media on since."""
    input: dict[str, Any]
    number_of_tries: int
    created_at: datetime
    attempt: OpenAttempt | None
    """What a worker before left open."""
    terms: JobTerms
    cancel_asked: asyncio.Event
    """Set when its owner wants it stopped."""
    nudged: asyncio.Event
    """Set when there is a reason to ask the provider now, cleared by who does."""
    taken: float
    """When it was claimed, by this process's `clock`."""
    trace: str | None
    """The W3C traceparent of the request; None: it was not traced."""
    route: JobRoute | None = None
    """None: its model was asked for by its own name."""

    @classmethod
    def of(cls, row: asyncpg.Record) -> "Job":
        """From a row that a claim answered."""
        job = cls(
            held=Lease(row["id"], row["fence"]),
            owner_id=row["owner_id"],
            prompt=row["prompt"],
            model=row["bought_as"] or row["model"],
            input=msgspec.json.decode(row["input"]),
            number_of_tries=row["number_of_tries"],
            created_at=row["created_at"],
            attempt=open_attempt(row) if row["attempt_id"] is not None else None,
            terms=JobTerms.of(row),
            cancel_asked=asyncio.Event(),
            nudged=asyncio.Event(),
            taken=clock.seconds(),
            trace=row["trace"],
            route=None if row["route"] is None else JobRoute(row["route"], msgspec.json.decode(row["route_input"])),
        )
        if row["cancel_asked"]:
            job.cancel_asked.set()
        return job

    def cancel(self) -> None:
        """Its owner wants it stopped."""
        if not self.cancel_asked.is_set():
            self.cancel_asked.set()
            self.nudged.set()

    @property
    def time_left(self) -> timedelta | None:
        """Until its deadline; None: it has none."""
        if self.terms.time_left is None:
            return None
        return timedelta(seconds=max(self.terms.time_left - (clock.seconds() - self.taken), 0.0))

    @property
    def provider(self) -> str:
        """The first part of the model's name."""
        return self.model.partition("/")[0]

    def submission(self, attempt_id: UUID, number: int, callback_url: str | None) -> Submission:
        """What the provider is asked for in one attempt."""
        model = self.model.partition("/")[2]
        return Submission(attempt_id, number, model, self.prompt, self.input, callback_url, self.time_left)
