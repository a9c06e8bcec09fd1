"""What a provider answered stays readable by its owner where nothing else of a purchase could be kept.

Kept under the attempt's id, beside the answers that blocking providers store before they are parsed
(`app/media_generator/adapter_kit/answer_store.py`): those are the answer wherever there is one.
"""

from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID

import structlog

from app.core.database.pool import RETRYABLE, DatabasePool
from app.jobs.transitions.attempt import record_answer
from app.media_generator.accounts import RawAnswers
from app.media_generator.raw_answers import RawAnswer

log = structlog.get_logger(__name__)

PART: Final = "answer"
"""The part of an attempt's stored answers that the engine has recorded."""


class AnswerKeeper:
    """Stores raw answers of attempts; one object for all jobs of a process."""

    def __init__(self, db: DatabasePool, vault: RawAnswers) -> None:
        self._db = db
        self._vault = vault

    async def keep(self, attempt_id: UUID, answer: RawAnswer | None) -> bool:
        """Make the answer to an attempt readable, before the attempt ends; False: it cannot be stored now.

        Args:
            attempt_id: Whose answer it is.
            answer: What came through the provider's HTTP client last; None: nothing did.
        """
        try:
            name = await self._vault.find(attempt_id)
            if name is None and answer is not None:
                name = await self._vault.keep(attempt_id, _one_chunk(answer.body), PART)
            if name is not None:
                await record_answer(self._db, attempt_id, name)
        except (OSError, *RETRYABLE) as error:
            log.warning("answer_not_kept", attempt_id=str(attempt_id), error=repr(error))
            return False
        return True


async def _one_chunk(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk
