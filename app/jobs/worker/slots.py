"""The queues as one worker serves them, and the operator's settings for its work."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

from app.jobs.execution.job import Job
from app.jobs.transitions.base import Lease

NOBODY: Final = UUID(int=0)
"""Sorts before every owner."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What the operator has set."""

    slots: Mapping[str, int]
    """Jobs in flight at most, by queue."""
    interval: timedelta
    """The longest time between two reads of due jobs."""
    lease: timedelta
    stuck_after: timedelta
    """How long the worker may report without getting anything done."""
    key_lifetime: timedelta
    patience: timedelta
    """How long a stop waits for calls that are spending money."""
    ageing: timedelta
    """The wait that counts as one step of priority."""
    most_takeovers: int
    """Workers that may die while they hold one media."""
    trial_pause: timedelta
    """The time between two trials of a provider whose circuit breaker is open."""
    provider_limits: Mapping[str, int]
    """Media in flight at most over all workers, by provider."""


HeldJob = tuple[Job, asyncio.Task[None]]


@dataclass(slots=True)
class QueueSlots:
    """One queue as this worker serves it."""

    slots: int
    jobs: dict[Lease, HeldJob] = field(default_factory=dict[Lease, HeldJob])
    """The jobs that it holds."""
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    backlog: bool = False
    """Whether more is due than there was room for, so that a free slot is a reason to claim."""
    scan_from_owner: UUID = NOBODY
    """The owner at whom the next claim begins to read the queue."""
    last_served_owner: UUID = NOBODY
    """The owner whose job was taken last."""

    @property
    def room(self) -> int:
        """How many more jobs it takes."""
        return self.slots - len(self.jobs)
