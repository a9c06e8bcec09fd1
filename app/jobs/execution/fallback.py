"""Moves media on to the next target of their route, after an outcome that provably cost nothing.

1. An attempt failed, was certainly not sent, and is not retried (or there was none: its model is missing here): the
   failure and the move are one statement. A crash before it leaves an open attempt, of which the provider is asked.
2. Media that wait for a paused model or an unavailable provider are moved to an available target: `move_waiting`, by
   any worker, each second. A crash leaves them where they are, for the next one.
A time-out, an unknown outcome, or a failure after the purchase is never a reason to move on.
"""

from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from app.core.database.pool import RETRYABLE, DatabasePool
from app.core.database.text import storable
from app.jobs import queries
from app.jobs.execution.job import Job, OpenAttempt
from app.jobs.queries import RoutedMedia
from app.jobs.scheduling.availability import AvailabilityCache, Unavailable
from app.jobs.scheduling.route_selection import RouteStep, next_step
from app.jobs.transitions.base import Lease
from app.jobs.transitions.reroute import Reroute, reroute, reroute_waiting
from app.media_generator.errors import ProviderError, Sent
from app.media_generator.registry import Registry

log = structlog.get_logger(__name__)

BATCH: Final = 500
"""Waiting media that are read at a time."""
_FIRST: Final = UUID(int=0)


class RouteFallback:
    """One object for all jobs of a process."""

    def __init__(self, db: DatabasePool, registry: Registry) -> None:
        self._db = db
        self._registry = registry
        self._availability = AvailabilityCache(db)
        self._after = _FIRST
        """The media at which reading the waiting ones continues."""

    async def after_failure(self, job: Job, attempt: OpenAttempt | None, error: ProviderError, error_json: str) -> bool:
        """Move a job on whose attempt failed for good; False: no target is left, or it may have cost something.

        Args:
            job: Held by this worker.
            attempt: None: it failed before there was one.
            error: Why.
            error_json: The same as it is stored.
        """
        if job.route is None or error.sent is not Sent.NO:
            return False
        unavailable = Unavailable()
        try:
            unavailable = await self._availability.read()
        except RETRYABLE:
            log.info("availability_unknown")
        step = self._next(job.route.name, job.model, job.route.input, unavailable)
        step = step or self._next(job.route.name, job.model, job.route.input, None)
        if step is None:
            return False
        attempt_id = None if attempt is None else attempt.id
        moved = await reroute(self._db, _reroute_to(step, job.lease, attempt_id, job.model, error_json))
        if moved:
            log.warning("media_rerouted", was=job.model, model=step.offer.full_name, code=error.code)
        return moved

    async def move_waiting(self) -> None:
        """Move media that wait for something unavailable to an available target."""
        unavailable = await self._availability.read()
        if not unavailable.models and not unavailable.providers:
            return
        rows = await queries.routed_waiting(
            self._db, list(unavailable.models), list(unavailable.providers), after=self._after, limit=BATCH
        )
        self._after = rows[-1].id if len(rows) == BATCH else _FIRST
        moves = [move for row in rows if (move := self._move(row, unavailable)) is not None]
        if moves:
            moved = await reroute_waiting(self._db, moves)
            log.warning("media_rerouted_while_waiting", count=sum(moved))

    def _move(self, row: RoutedMedia, unavailable: Unavailable) -> Reroute | None:
        step = self._next(row.route, row.model, msgspec.json.decode(row.route_input), unavailable)
        if step is None:
            return None
        reason = msgspec.json.encode(unavailable.reason(row.model)).decode()
        return _reroute_to(step, Lease(row.id, row.fence), None, row.model, reason)

    def _next(self, route: str, model: str, given: dict[str, Any], unavailable: Unavailable | None) -> RouteStep | None:
        try:
            return next_step(self._registry, route, model, given, unavailable)
        except Exception:
            # An adapter that fails at completing an input must not leave an attempt open that was refused.
            log.exception("route_broken", route=route)
            return None


def _reroute_to(step: RouteStep, lease: Lease, attempt_id: UUID | None, was: str, error: str) -> Reroute:
    given = msgspec.json.encode(storable(step.input)).decode()
    return Reroute(lease, attempt_id, was, step.offer.full_name, step.offer.queue, given, step.number, error)
