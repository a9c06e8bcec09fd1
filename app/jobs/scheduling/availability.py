"""What nothing can be bought from now, as one process remembers it for a second: asking costs a request no statement.

It decides what a new request is told. What is bought is decided by the claim, which reads the rows themselves.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from app.core.database.pool import DatabasePool
from app.jobs.scheduling import model_pauses, provider_circuits

FRESH_SECONDS: Final = 1.0

Why = Mapping[str, str]
"""`code` and `message`."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Models that are paused and providers that are closed, with the reason of each."""

    models: Mapping[str, Why] = field(default_factory=dict[str, Why])
    providers: Mapping[str, Why] = field(default_factory=dict[str, Why])

    def why(self, model: str) -> Why | None:
        """Why nothing is bought from a model now; None: it is."""
        return self.models.get(model) or self.providers.get(model.partition("/")[0])


async def unavailable_now(db: DatabasePool) -> Unavailable:
    """What is closed at this moment."""
    return Unavailable(
        {row["model"]: {"code": row["code"], "message": row["message"]} for row in await model_pauses.paused(db)},
        {
            row["provider"]: {"code": row["code"], "message": row["message"]}
            for row in await provider_circuits.closed(db)
        },
    )


class AvailabilityCache:
    """The memory of one process; belongs to one event loop."""

    def __init__(self, db: DatabasePool) -> None:
        self._db = db
        self._seen = Unavailable()
        self._good_until = 0.0
        self._looking = asyncio.Lock()

    async def look(self) -> Unavailable:
        """What was closed a second ago at most."""
        if time.monotonic() < self._good_until:
            return self._seen
        async with self._looking:
            if time.monotonic() >= self._good_until:
                self._seen = await unavailable_now(self._db)
                self._good_until = time.monotonic() + FRESH_SECONDS
        return self._seen
