"""From a claimed media to its files.

Crosses database, provider and store, in this order:

1. intent: the attempt is committed. A crash from here on leaves an attempt without an external id:
   the next worker asks the provider for it; if nobody can say, the media ends as `outcome_unknown`.
2. submit: the one call that spends money, made once, never cut off by a shutdown.
3. purchase: external id and reference are committed. A crash from here on costs time only: the next
   worker goes on polling.
4. poll, until the provider is done.
5. copy: each output into the store. A crash leaves objects that the next worker writes again, same keys.
6. completion: files, COMPLETED and the attempt's end are committed together.

Steps 1 to 3 are `purchasing.py`. Every write but the purchase names the claim's fencing number: after a
lost lease it changes nothing.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from app.media.commands import Completion, Progress, StoredFile
from app.media.copying import Limits, Place, copy_output
from app.media.jobs import Job
from app.media.purchasing import Purchasing
from app.media.retry import RetryPolicy
from app.media.settlement import settle
from app.media.writes import Writes
from app.media_generator.errors import (
    BusyError,
    GenerationFailedError,
    ModelGoneError,
    NotReachedError,
    OutputError,
    ProviderError,
)
from app.media_generator.media_generator_model import (
    Failed,
    MediaGeneratorModel,
    Reference,
    Running,
    Succeeded,
)
from app.media_generator.registry import Registry, UnknownModelError
from app.storage.store import Store, StoreError

log = structlog.get_logger(__name__)

COPIES_AT_ONCE: Final = 16
"""Outputs that one process copies at the same time; bounds its memory."""
PROGRESS_SECONDS: Final = 0.5
"""The shortest time between two progress writes of one job."""
SHORTEST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 10.0
"""Seconds between two polls when the provider gives no hint; they double from the first to the second."""


class HandBackError(Exception):
    """The job cannot go on now: give it back to the queue, its attempt stays open."""

    def __init__(self, reason: str, delay: timedelta) -> None:
        super().__init__(reason)
        self.reason = reason
        self.delay = delay


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator has set."""

    retry: RetryPolicy
    limits: Limits


class Generation:
    """Generates media; one object for all jobs of a process."""

    def __init__(self, writes: Writes, registry: Registry, store: Store, rules: Rules) -> None:
        self._writes = writes
        self._registry = registry
        self._store = store
        self._rules = rules
        self._copies = asyncio.Semaphore(COPIES_AT_ONCE)
        self.purchasing = Purchasing(writes, rules.retry)

    async def run(self, job: Job) -> None:
        """Bring one job to a final state, or to its next try.

        Raises:
            HandBackError: It has to wait; somebody else may go on with it.
            LeaseLostError: It is not this worker's any more.
        """
        try:
            offer = self._registry.find(job.model)
        except UnknownModelError:
            error = ModelGoneError(f"this worker has no model {job.model!r}; is its plug-in installed?")
            await settle(self._writes, self._rules.retry, job, job.attempt, error)
            return
        attempt = await self.purchasing.obtain(job, offer)
        if attempt is None or attempt.reference is None:
            return
        structlog.contextvars.bind_contextvars(attempt=attempt.number)
        try:
            succeeded = await self._outcome(job, offer.provider, attempt.reference)
            files = await self._copy_all(job, offer.provider, succeeded)
        except ProviderError as error:
            await settle(self._writes, self._rules.retry, job, attempt, error)
            return
        await self._writes.complete(Completion(job.held, attempt.id, files, succeeded.cost))
        log.info("media_completed", files=len(files), bytes=sum(file.bytes for file in files))

    async def _outcome(self, job: Job, provider: MediaGeneratorModel, reference: Reference) -> Succeeded:
        """Wait until the provider is done; between polls nothing is held but this coroutine."""
        wait, shown, told = SHORTEST_WAIT, None, 0.0
        while True:
            outcome = await _poll(provider, reference)
            if isinstance(outcome, Succeeded):
                return outcome
            if isinstance(outcome, Failed):
                raise outcome.error
            if outcome.progress is not None and outcome.progress != shown and time.monotonic() > told:
                shown, told = outcome.progress, time.monotonic() + PROGRESS_SECONDS
                await self._writes.progress(Progress(job.held, min(max(shown, 0.0), 1.0)))
            await asyncio.sleep(outcome.wait.total_seconds() if outcome.wait is not None else wait)
            wait = min(wait * 2, LONGEST_WAIT)

    async def _copy_all(self, job: Job, provider: MediaGeneratorModel, succeeded: Succeeded) -> tuple[StoredFile, ...]:
        if not succeeded.outputs:
            raise GenerationFailedError(f"{provider.name} finished without a result")
        files: list[StoredFile] = []
        for index, output in enumerate(succeeded.outputs):
            place = Place(job.held.media_id, job.created_at, index)
            try:
                async with self._copies:
                    file = await copy_output(provider, output, self._store, place, self._rules.limits)
            except (StoreError, NotReachedError, BusyError) as error:
                log.warning("copy_delayed", index=index, error=str(error))
                # The claims so far stand for the tries so far: nothing is bought by another one.
                raise HandBackError("copy_delayed", self._rules.retry.pause(job.held.fence)) from error
            log.info("output_stored", index=index, key=file.key, bytes=file.bytes, media_type=file.media_type)
            files.append(file)
        return tuple(files)


async def _poll(provider: MediaGeneratorModel, reference: Reference) -> Running | Succeeded | Failed:
    try:
        return await provider.poll(reference)
    except (NotReachedError, BusyError) as error:
        log.info("poll_delayed", error=error.message)
        return Running(wait=error.retry_after)
    except ProviderError as error:
        return Failed(error)
    except Exception as error:
        log.exception("provider_defect", provider=provider.name)
        return Failed(OutputError(f"the adapter of {provider.name} failed: {type(error).__name__}"))
