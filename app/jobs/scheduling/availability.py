"""Which models and providers are unavailable now, cached in the process for a second, so that reading costs nothing.

It decides what a new request is answered. What is submitted is decided by the claim, which reads the rows themselves.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from app.core.database.pool import DatabasePool
from app.jobs.scheduling import model_pauses, provider_circuits

FRESH_SECONDS: Final = 1.0

Reason = Mapping[str, str]
"""`code` and `message`."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Paused models and unavailable providers, with the reason of each."""

    models: Mapping[str, Reason] = field(default_factory=dict[str, Reason])
    providers: Mapping[str, Reason] = field(default_factory=dict[str, Reason])

    def reason(self, model: str) -> Reason | None:
        """Why nothing is submitted to a model now; None: it is available."""
        return self.models.get(model) or self.providers.get(model.partition("/")[0])


async def unavailable_now(db: DatabasePool) -> Unavailable:
    """What is unavailable at this moment."""
    return Unavailable(
        {row.model: {"code": row.code, "message": row.message} for row in await model_pauses.paused(db)},
        {row.provider: {"code": row.code, "message": row.message} for row in await provider_circuits.tripped(db)},
    )


class AvailabilityCache:
    """The cache of one process; belongs to one event loop."""

    def __init__(self, db: DatabasePool) -> None:
        self._db = db
        self._cached = Unavailable()
        self._fresh_until = 0.0
        self._reading = asyncio.Lock()

    async def read(self) -> Unavailable:
        """What was unavailable at most a second ago."""
        if time.monotonic() < self._fresh_until:
            return self._cached
        async with self._reading:
            if time.monotonic() >= self._fresh_until:
                self._cached = await unavailable_now(self._db)
                self._fresh_until = time.monotonic() + FRESH_SECONDS
        return self._cached
