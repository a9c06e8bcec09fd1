"""Sends media on to the next target of their route, after an outcome that provably cost nothing.

1. A try failed, was certainly not sent, and is not repeated (or there was none: its model is missing here): the failure
   and the move are one statement. A crash before it leaves an open attempt, of which the provider is asked.
2. What waits for a model that is paused or a provider that is closed is moved to a target that is open: `tend`, by any
   worker, each second. A crash leaves it where it is, for the next one.
A time-out, an outcome that nobody knows, or a failure after the purchase is never a reason to go on.
"""

from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec
import structlog

from app.core.database.pool import DatabasePool
from app.core.database.text import storable
from app.jobs import queries
from app.jobs.execution.job import Job, OpenAttempt
from app.jobs.scheduling.availability import AvailabilityCache, Unavailable
from app.jobs.scheduling.route_selection import RouteStep, next_step
from app.jobs.transitions import transitions
from app.jobs.transitions.commands import Lease, Reroute
from app.jobs.transitions.group_commit import TRY_LATER, Writes
from app.media_generator.errors import ProviderError, Sent
from app.media_generator.registry import Registry

log = structlog.get_logger(__name__)

BATCH: Final = 500
"""Media that one look along those that wait sees."""
_FIRST: Final = UUID(int=0)


class RouteFallback:
    """One object for all jobs of a process."""

    def __init__(self, db: DatabasePool, writes: Writes, registry: Registry) -> None:
        self._db = db
        self._writes = writes
        self._registry = registry
        self._availability = AvailabilityCache(db)
        self._after = _FIRST
        """The media at which the look along those that wait goes on."""

    async def after(self, job: Job, attempt: OpenAttempt | None, error: ProviderError, told: str) -> bool:
        """Send a job on whose try ended for good; False: there is no further target, or it may have cost something.

        Args:
            job: In this worker's hands.
            attempt: None: it failed before there was one.
            error: Why.
            told: The same as it is stored.
        """
        if job.route is None or error.sent is not Sent.NO:
            return False
        closed = Unavailable()
        try:
            closed = await self._availability.look()
        except TRY_LATER:
            log.info("closures_unknown")
        step = self._next(job.route.name, job.model, job.route.input, closed)
        step = step or self._next(job.route.name, job.model, job.route.input, None)
        if step is None:
            return False
        moved = await self._writes.reroute(
            _rerouting(job.held, None if attempt is None else attempt.id, job.model, step, told)
        )
        if moved:
            log.warning("media_rerouted", was=job.model, model=step.offer.full_name, code=error.code)
        return moved

    async def tend(self) -> None:
        """Move what waits for something closed to a target that is open."""
        closed = await self._availability.look()
        if not closed.models and not closed.providers:
            return
        rows = await queries.routed_waiting(
            self._db, list(closed.models), list(closed.providers), after=self._after, limit=BATCH
        )
        self._after = rows[-1]["id"] if len(rows) == BATCH else _FIRST
        moves = [move for row in rows if (move := self._move(row, closed)) is not None]
        if moves:
            moved = await transitions.reroute_waiting(self._db, moves)
            log.warning("media_rerouted_while_waiting", count=sum(moved))

    def _move(self, row: asyncpg.Record, closed: Unavailable) -> Reroute | None:
        step = self._next(row["route"], row["model"], msgspec.json.decode(row["route_input"]), closed)
        if step is None:
            return None
        why = msgspec.json.encode(closed.why(row["model"])).decode()
        return _rerouting(Lease(row["id"], row["fence"]), None, row["model"], step, why)

    def _next(self, route: str, model: str, given: dict[str, Any], closed: Unavailable | None) -> RouteStep | None:
        try:
            return next_step(self._registry, route, model, given, closed)
        except Exception:
            # An adapter that fails at completing an input must not leave an attempt open that was refused.
            log.exception("route_broken", route=route)
            return None


def _rerouting(held: Lease, attempt_id: UUID | None, was: str, step: RouteStep, error: str) -> Reroute:
    given = msgspec.json.encode(storable(step.input)).decode()
    return Reroute(held, attempt_id, was, step.offer.full_name, step.offer.queue, given, step.number, error)
