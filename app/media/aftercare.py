"""Aftercare: purchases whose media ended before them, after a deadline or with an outcome that nobody knew.

Crosses database, provider and store, a little at each look; nobody owns such an attempt.

1. take: `look_at` moves ahead. A crash from here on costs the time until then.
2. Without an external id: the provider is asked for it, as `purchasing.py` does.
3. The provider is told to stop, once, where nobody waits for the result.
4. It is polled. A failure, or that it stopped, closes the attempt.
5. A result is copied and committed together with the attempt's end: the media stays what it is, and a retry
   by its owner completes it without buying again.
After `late_result` nobody looks any more.
"""

import asyncio
import contextlib
from datetime import timedelta
from typing import Final

import asyncpg
import msgspec
import structlog

from app.core.connections import Connections
from app.media import calls, late, tallies
from app.media.commands import Closing, LateResult
from app.media.copying import Copier, CopyDelayedError
from app.media.jobs import OpenAttempt, open_attempt
from app.media.purchasing import MARGIN, record_purchase
from app.media.rules import Rules
from app.media.states import AttemptStatus
from app.media.writes import Writes
from app.media_generator.errors import NotReachedError, ProviderError
from app.media_generator.media_generator_model import CancelAnswer, Canceled, Failed, Reference, Submission, Succeeded
from app.media_generator.registry import Offer, Registry, UnknownModelError

log = structlog.get_logger(__name__)

AT_ONCE: Final = 50
"""Attempts in one round."""
PAUSE: Final = timedelta(seconds=5)
"""Between two looks at one attempt; longer than a look takes as a rule, and if not, nothing breaks."""


class Aftercare:
    """Looks after attempts; any number of workers may."""

    def __init__(self, hot: Connections, writes: Writes, registry: Registry, copier: Copier, rules: Rules) -> None:
        self._hot = hot
        self._writes = writes
        self._registry = registry
        self._copier = copier
        self._rules = rules

    async def round(self) -> int:
        """Look at whatever is due; how much that was."""
        rows = await late.take(self._hot, limit=AT_ONCE, pause=PAUSE)
        # One that fails must not keep the others from being looked at.
        for outcome in await asyncio.gather(*(self._look(row) for row in rows), return_exceptions=True):
            if isinstance(outcome, Exception):
                log.warning("aftercare_failed", error=repr(outcome))
        return len(rows)

    async def _look(self, row: asyncpg.Record) -> None:
        structlog.contextvars.bind_contextvars(media_id=str(row["id"]), attempt=row["attempt_number"])
        attempt = open_attempt(row)
        with contextlib.suppress(UnknownModelError):
            offer = self._registry.find(row["model"])
            if attempt.reference is not None:
                await self._follow(row, offer, attempt, attempt.reference)
            elif await self._find(row, offer, attempt):
                return
        if row["over_since"] > self._rules.late_result:
            await late.forsake(self._hot, attempt.id)

    async def _find(self, row: asyncpg.Record, offer: Offer, attempt: OpenAttempt) -> bool:
        """Whether it is known now what became of the attempt."""
        can = offer.provider.capabilities
        if attempt.age < can.submit_timeout.total_seconds() + MARGIN:
            return True  # the call may be in the air; whoever makes it writes down what it brings
        if not can.findable:
            await late.forsake(self._hot, attempt.id)
            return True
        name = row["model"].partition("/")[2]
        submission = Submission(attempt.id, attempt.number, name, row["prompt"], msgspec.json.decode(row["input"]))
        try:
            reference = await calls.find(offer.provider, submission, attempt.created_at)
        except ProviderError as error:
            log.info("late_purchase_not_found_yet", error=error.message)
            return False
        if reference is None:
            await self._close(attempt, NotReachedError(f"{offer.provider.name} never got the request"))
        else:
            await record_purchase(self._writes, attempt, reference)
        return True

    async def _follow(self, row: asyncpg.Record, offer: Offer, attempt: OpenAttempt, reference: Reference) -> None:
        if row["stop"]:
            answer = await calls.cancel(offer.provider, reference)
            log.info("stop_answered", answer=answer)
            if answer is CancelAnswer.CANCELED:
                await self._writes.close(Closing(attempt.id, AttemptStatus.CANCELED, "YES"))
                return
            if answer is not None:
                await late.told_to_stop(self._hot, attempt.id)
        outcome = await calls.poll(offer.provider, reference)
        if isinstance(outcome, Failed):
            await self._close(attempt, outcome.error)
        elif isinstance(outcome, Canceled):
            await self._writes.close(Closing(attempt.id, AttemptStatus.CANCELED, "YES", cost=outcome.cost))
        elif isinstance(outcome, Succeeded):
            await self._store(row, offer, attempt, outcome)

    async def _store(self, row: asyncpg.Record, offer: Offer, attempt: OpenAttempt, succeeded: Succeeded) -> None:
        try:
            files = await self._copier.copy_all(offer.provider, succeeded.outputs, row["id"], row["created_at"])
        except CopyDelayedError:
            return
        except ProviderError as error:
            await self._close(attempt, error)
            return
        if await late.store(self._hot, LateResult(attempt.id, row["id"], files, succeeded.cost)):
            log.info("late_result_stored", files=len(files))
            await tallies.add(self._hot, tallies.Counted.LATE_STORED, 1)

    async def _close(self, attempt: OpenAttempt, error: ProviderError) -> None:
        said = msgspec.json.encode({"code": error.code, "message": error.message.replace("\x00", "")}).decode()
        await self._writes.close(Closing(attempt.id, AttemptStatus.FAILED, error.sent, said))
