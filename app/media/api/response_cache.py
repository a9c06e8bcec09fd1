"""What can no longer change, as the bytes that were answered: completed media, kept in this process."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final
from uuid import UUID

KEPT: Final = 4_000
"""Answers kept; about 1.5 kB each."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A rendered answer and its ETag."""

    body: bytes
    etag: str


class FinishedResponses:
    """Answers by who asked for what; the oldest are forgotten first."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[str, UUID, UUID], Answer] = OrderedDict()

    def get(self, kind: str, owner_id: UUID, key: UUID) -> Answer | None:
        """The answer to this question, if it was given before."""
        return self._answers.get((kind, owner_id, key))

    def keep(self, kind: str, owner_id: UUID, key: UUID, answer: Answer) -> None:
        """Remember the answer to a question; only for what can no longer change."""
        self._answers[kind, owner_id, key] = answer
        if len(self._answers) > KEPT:
            self._answers.popitem(last=False)
