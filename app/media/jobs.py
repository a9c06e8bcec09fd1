"""A job in a worker's hands, as the claim answered it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from app.media.commands import Held
from app.media_generator.media_generator_model import Reference, Submission


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """An attempt that may still bring a result."""

    id: UUID
    number: int
    reference: Reference | None
    """The purchase; None: not known whether there is one."""
    created_at: datetime
    """When its intent was committed."""


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed media."""

    held: Held
    prompt: str
    model: str
    """`provider/name`."""
    input: dict[str, Any]
    number_of_tries: int
    created_at: datetime
    attempt: OpenAttempt | None
    """What a worker before left open."""

    @classmethod
    def of(cls, row: asyncpg.Record) -> "Job":
        """From a row that `transitions.claim` answered."""
        attempt = None
        if row["attempt_id"] is not None:
            reference = msgspec.json.decode(row["reference"], type=Reference) if row["reference"] else None
            attempt = OpenAttempt(row["attempt_id"], row["attempt_number"], reference, row["attempted_at"])
        return cls(
            held=Held(row["id"], row["fence"]),
            prompt=row["prompt"],
            model=row["model"],
            input=msgspec.json.decode(row["input"]),
            number_of_tries=row["number_of_tries"],
            created_at=row["created_at"],
            attempt=attempt,
        )

    def submission(self, attempt_id: UUID, number: int) -> Submission:
        """What the provider is asked for in one attempt."""
        return Submission(attempt_id, number, self.model.partition("/")[2], self.prompt, self.input)
