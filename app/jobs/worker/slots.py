"""The queues as one worker sees them, and the pace at which it works."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

from app.jobs.execution.job import Job
from app.jobs.transitions.commands import Lease

NOBODY: Final = UUID(int=0)
"""Before every owner."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What the operator has set."""

    slots: Mapping[str, int]
    """Jobs in flight at most, by queue."""
    interval: timedelta
    """The longest time between two looks for due jobs."""
    lease: timedelta
    key_lifetime: timedelta
    patience: timedelta
    """How long a stop waits for calls that are spending money."""
    ageing: timedelta
    """The wait that counts as one step of priority."""
    most_takeovers: int
    """Workers that may die with one media in hand."""
    trial_pause: timedelta
    """The time between two trials of a provider that is closed."""
    provider_limits: Mapping[str, int]
    """Media in flight at most over all workers, by provider."""


@dataclass(slots=True)
class QueueSlots:
    """One queue as this worker sees it."""

    slots: int
    jobs: dict[Lease, tuple[Job, asyncio.Task[None]]] = field(
        default_factory=dict[Lease, tuple[Job, asyncio.Task[None]]]
    )
    """What is in hand."""
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    backlog: bool = False
    """Whether more is due than there was room for, so that a freed slot is a reason to claim."""
    after: UUID = NOBODY
    """The owner at whom the next look along the queue begins."""
    served: UUID = NOBODY
    """The owner whose job was taken last."""

    @property
    def room(self) -> int:
        """How many more jobs it takes."""
        return self.slots - len(self.jobs)
