"""The runner: one event loop in each worker process that claims due jobs and keeps them in flight.

What a crash leaves behind is put right by the sweep of any other worker; see `sweep.py`.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

import structlog

from app.core.connections import Connections
from app.core.ids import new_id
from app.media import sweep, transitions, workers
from app.media.commands import Held
from app.media.generation import Generation, HandBackError
from app.media.jobs import Job
from app.media.writes import TRY_LATER, LeaseLostError

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

MOST_AT_ONCE: Final = 200
"""Jobs in one claim."""
BEATS_PER_LEASE: Final = 6


@dataclass(frozen=True, slots=True)
class Pace:
    """What the operator has set."""

    slots: Mapping[str, int]
    """Jobs in flight at most, by queue."""
    interval: timedelta
    """The longest time between two looks for due jobs."""
    lease: timedelta
    key_lifetime: timedelta
    patience: timedelta
    """How long a stop waits for calls that are spending money."""


class Runner:
    """Claims, runs, heartbeats, sweeps; `wake` is the bell."""

    def __init__(self, hot: Connections, generation: Generation, pace: Pace) -> None:
        self._hot = hot
        self._generation = generation
        self._pace = pace
        self.worker_id = new_id()
        self._name = f"{socket.gethostname()}/{os.getpid()}"
        self._jobs: dict[str, dict[Held, asyncio.Task[None]]] = {queue: {} for queue in pace.slots}
        self._bells = {queue: asyncio.Event() for queue in pace.slots}
        self._backlog = dict.fromkeys(pace.slots, False)
        """Whether more is due than there was room for, so that a freed slot is a reason to claim."""
        self._claiming = asyncio.Lock()
        self._loops: list[asyncio.Task[None]] = []

    @property
    def in_flight(self) -> int:
        """Jobs in hand."""
        return sum(len(jobs) for jobs in self._jobs.values())

    def wake(self, queue: str | None = None) -> None:
        """Look for due jobs now; a queue that this worker does not serve is ignored."""
        for name, bell in self._bells.items():
            if queue in {None, name}:
                bell.set()

    async def start(self) -> None:
        """Begin; returns at once, also while the database is away."""
        self._loops = [
            asyncio.create_task(self._keep_lease()),
            *(asyncio.create_task(self._serve(queue)) for queue in self._bells),
        ]

    async def watch(self) -> None:
        """Return only if the runner has ceased to work by itself: a defect."""
        done, _ = await asyncio.wait(self._loops, return_when=asyncio.FIRST_COMPLETED)
        for loop in done:
            log.error("runner_loop_ended", error=repr(loop.exception()) if not loop.cancelled() else "cancelled")

    async def stop(self) -> None:
        """Claim nothing more, let calls that spend money end, hand everything else back at once."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pace.patience.total_seconds()), self._claiming:
                pass  # a claim that is cut off would be committed without our knowing
        await _cancel(self._loops)
        held = [held for jobs in self._jobs.values() for held in jobs]
        await self._drop_jobs()
        try:
            async with asyncio.timeout(self._pace.patience.total_seconds()):
                await self._hand_back(held)
        except TimeoutError:
            log.warning("stop_incomplete", buying=len(self._generation.purchasing.running))
        log.info("runner_stopped", handed_back=len(held))

    async def _hand_back(self, held: Sequence[Held]) -> None:
        buying = set(self._generation.purchasing.running)
        await _survives(self._return([h for h in held if h not in buying]))
        await self._generation.purchasing.finish()
        await _survives(self._return([h for h in held if h in buying]))
        await _survives(workers.leave(self._hot, self.worker_id))

    async def _return(self, held: Sequence[Held]) -> None:
        await transitions.hand_back(self._hot, held, reason="worker_stopped", delay=timedelta(0))

    async def _serve(self, queue: str) -> None:
        """Claim whenever there is room and a reason to believe that something is due."""
        bell = self._bells[queue]
        while True:
            bell.clear()
            room = self._pace.slots[queue] - len(self._jobs[queue])
            self._backlog[queue] = room == 0 or bool(await _survives(self._claim(queue, min(room, MOST_AT_ONCE))))
            if room > 0 and self._backlog[queue]:
                continue
            try:
                async with asyncio.timeout(self._pace.interval.total_seconds()):
                    await bell.wait()
            except TimeoutError:
                continue

    async def _claim(self, queue: str, limit: int) -> bool:
        """Claim once; True if more may be due."""
        async with self._claiming:
            rows = await transitions.claim(self._hot, queue, worker_id=self.worker_id, limit=limit)
            for row in rows:
                job = Job.of(row)
                self._jobs[queue][job.held] = asyncio.create_task(self._run(queue, job))
        return len(rows) == limit

    async def _run(self, queue: str, job: Job) -> None:
        structlog.contextvars.bind_contextvars(media_id=str(job.held.media_id))
        log.info("media_claimed", tries_so_far=job.number_of_tries, resumed=job.attempt is not None)
        try:
            await self._generation.run(job)
        except HandBackError as error:
            await _survives(transitions.hand_back(self._hot, [job.held], reason=error.reason, delay=error.delay))
        except LeaseLostError:
            log.info("lease_lost")
        except Exception:
            # Returned by the next sweep, as its worker no longer has it in hand.
            log.exception("job_broken")
        finally:
            self._jobs[queue].pop(job.held, None)
            if self._backlog[queue]:
                self._bells[queue].set()

    async def _keep_lease(self) -> None:
        """Register, report, sweep; forever."""
        pause = self._pace.lease.total_seconds() / BEATS_PER_LEASE
        while not await _survives(self._register()):  # noqa: ASYNC110 - there is nobody who could tell us
            await asyncio.sleep(min(pause, 1.0))
        while True:
            await _survives(self._beat())
            await asyncio.sleep(pause)

    async def _register(self) -> bool:
        await workers.register(self._hot, self.worker_id, self._name)
        self.wake()
        return True

    async def _beat(self) -> None:
        if not await workers.beat(self._hot, self.worker_id, lease=self._pace.lease):
            log.warning("worker_declared_dead", jobs=self.in_flight)
            await self._drop_jobs()
            self.worker_id = new_id()
            await self._register()
        async with self._claiming:
            in_hand = [held.media_id for jobs in self._jobs.values() for held in jobs]
            queues = await transitions.return_forgotten(self._hot, self.worker_id, in_hand)
        queues |= await sweep.sweep(
            self._hot, self.worker_id, lease=self._pace.lease, key_lifetime=self._pace.key_lifetime
        )
        for queue in queues:
            self.wake(queue)

    async def _drop_jobs(self) -> None:
        """Let go of every job; calls that are spending money go on by themselves."""
        await _cancel([task for jobs in self._jobs.values() for task in jobs.values()])


async def _survives(work: Coroutine[Any, Any, Result]) -> Result | None:
    """Do it; no error of the database, or of ours, is a reason to end: then the answer is None."""
    try:
        return await work
    except TRY_LATER as error:
        log.warning("database_unavailable", error=type(error).__name__)
    except Exception:
        log.exception("runner_stumbled")
    await asyncio.sleep(0.2)
    return None


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
