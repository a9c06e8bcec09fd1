"""The runner: one event loop in each worker process that claims due jobs and keeps them in flight.

What a crash leaves behind is put right by the sweep of any other worker; see `sweep.py`.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Collection, Coroutine, Sequence
from datetime import timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

import asyncpg
import structlog

from app.core.database.pool import DatabasePool
from app.core.ids import new_id
from app.core.task_cancellation import end
from app.core.telemetry import tracing
from app.jobs import queries
from app.jobs.callbacks.listener import CallbackListener
from app.jobs.execution.executor import JobExecutor, ReleaseJobError
from app.jobs.execution.job import Job
from app.jobs.execution.late_results import LateResults
from app.jobs.job_errors import JOB_BROKEN
from app.jobs.metrics import counters
from app.jobs.states import SUSPECT_FROM
from app.jobs.transitions import transitions
from app.jobs.transitions.commands import ClaimTerms, Lease
from app.jobs.transitions.group_commit import TRY_LATER, LeaseLostError
from app.jobs.worker import leases, sweep
from app.jobs.worker.slots import NOBODY, QueueSlots, WorkerSettings
from app.uploads.service import Uploads

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

MOST_AT_ONCE: Final = 200
"""Jobs in one claim."""
BEATS_PER_LEASE: Final = 6
KEYS_EVERY: Final = timedelta(minutes=1)
"""Between two looks whether a provider's keys are to be fetched."""
SUSPECTS_AT_ONCE: Final = ((SUSPECT_FROM, 128), (SUSPECT_FROM + 1, 8), (2**31 - 2, 1))
"""Media in one worker's hands that outlived so many workers: the more often, the fewer beside each other."""


async def keep_going(work: Coroutine[Any, Any, Result]) -> Result | None:
    """Do it; no error of the database, or of ours, is a reason to end: then the answer is None."""
    try:
        return await work
    except TRY_LATER as error:
        log.warning("database_unavailable", error=type(error).__name__)
    except Exception:
        log.exception("runner_stumbled")
    await asyncio.sleep(0.2)
    return None


class Runner:
    """Claims, runs, heartbeats, sweeps; `wake` is the bell."""

    def __init__(
        self,
        db: DatabasePool,
        generation: JobExecutor,
        aftercare: LateResults,
        hearing: CallbackListener,
        uploads: Uploads,
        pace: WorkerSettings,
    ) -> None:
        self._db = db
        self._generation = generation
        self._aftercare = aftercare
        self._hearing = hearing
        self._uploads = uploads
        self._pace = pace
        self.worker_id = new_id()
        self._name = f"{socket.gethostname()}/{os.getpid()}"
        self._lanes = {queue: QueueSlots(slots) for queue, slots in pace.slots.items()}
        self._by_media = dict[UUID, Job]()
        """What is in hand, by the media's id."""
        self._claiming = asyncio.Lock()
        self._loops: list[asyncio.Task[None]] = []

    @property
    def in_flight(self) -> int:
        """Jobs in hand."""
        return sum(len(lane.jobs) for lane in self._lanes.values())

    def wake(self, queue: str | None = None) -> None:
        """Look for due jobs now; a queue that this worker does not serve is ignored."""
        for name, lane in self._lanes.items():
            if queue in {None, name}:
                lane.bell.set()

    async def start(self) -> None:
        """Begin; returns at once, also while the database is away."""
        self._loops = [
            asyncio.create_task(self._keep_lease()),
            asyncio.create_task(self._again_and_again(self._put_right, self._pace.lease / BEATS_PER_LEASE)),
            asyncio.create_task(self._again_and_again(self._tend, self._pace.interval)),
            asyncio.create_task(self._again_and_again(self._aftercare.round, self._pace.interval)),
            asyncio.create_task(self._hearing.listen(self._nudge)),
            asyncio.create_task(self._again_and_again(self._hearing.fetch_keys, KEYS_EVERY)),
            *(asyncio.create_task(self._serve(queue)) for queue in self._lanes),
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
        await end(*self._loops)
        held = [held for lane in self._lanes.values() for held in lane.jobs]
        await self._aftercare.close()
        await self._drop_jobs()
        try:
            async with asyncio.timeout(self._pace.patience.total_seconds()):
                await self._hand_back(held)
        except TimeoutError:
            log.warning("stop_incomplete", buying=len(self._generation.purchasing.running))
        log.info("runner_stopped", handed_back=len(held))

    async def _hand_back(self, held: Sequence[Lease]) -> None:
        buying = set(self._generation.purchasing.running)
        await keep_going(self._return([h for h in held if h not in buying]))
        await self._generation.purchasing.finish()
        await keep_going(self._return([h for h in held if h in buying]))
        await keep_going(leases.leave(self._db, self.worker_id))

    async def _return(self, held: Sequence[Lease]) -> None:
        await transitions.hand_back(self._db, held, reason="worker_stopped", delay=timedelta(0))

    async def _serve(self, queue: str) -> None:
        """Claim whenever there is room and a reason to believe that something is due."""
        lane = self._lanes[queue]
        while True:
            lane.bell.clear()
            room = lane.room
            lane.backlog = room <= 0 or bool(await keep_going(self._claim(queue, lane, min(room, MOST_AT_ONCE))))
            if room > 0 and lane.backlog:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.interval.total_seconds()):
                    await lane.bell.wait()

    async def _claim(self, queue: str, lane: QueueSlots, limit: int) -> bool:
        """Claim once; True if more can be taken now."""
        standing = ClaimTerms(
            worker_id=self.worker_id,
            after=lane.after,
            served=lane.served,
            ageing=self._pace.ageing,
            limits=self._pace.provider_limits,
            trial_pause=self._pace.trial_pause,
        )
        async with self._claiming:
            rows = await transitions.claim(self._db, queue, standing, limit=limit)
            jobs = await self._take(queue, [row for row in rows if row["id"] is not None])
        further = rows[0]["next_owner"]
        lane.after = further or NOBODY
        if jobs:
            lane.served = jobs[-1].owner_id
        return further is not None or (bool(jobs) and rows[0]["more"])

    async def _take(self, queue: str, rows: Sequence[asyncpg.Record]) -> list[Job]:
        """Begin to work on what was claimed; a row that cannot be read must not take the others with it."""
        jobs: list[Job] = []
        for row in rows:
            try:
                job = Job.of(row)
            except Exception:
                log.exception("job_unreadable", media_id=str(row["id"]))
                await keep_going(self._give_up_for_now(Lease(row["id"], row["fence"])))
                continue
            jobs.append(job)
            self._by_media[job.held.media_id] = job
            self._lanes[queue].jobs[job.held] = job, asyncio.create_task(self._run(queue, job))
        return jobs

    async def _give_up_for_now(self, held: Lease) -> None:
        """Return a job at which this worker failed; it is counted, so that it comes to an end."""
        await transitions.return_broken(self._db, held, JOB_BROKEN.as_json)
        await counters.add(self._db, counters.PersistedCounter.JOBS_BROKEN, 1)

    async def _claim_suspects(self, queue: str, lane: QueueSlots) -> None:
        """Media that outlived their workers: a few at a time, the worst of them alone."""
        suspects = [job.terms.takeovers for job, _ in lane.jobs.values() if job.terms.takeovers >= SUSPECT_FROM]
        claim = transitions.claim_suspects
        async with self._claiming:
            rows: list[asyncpg.Record] = []
            for worst, at_once in SUSPECTS_AT_ONCE:
                room = min(at_once - len(suspects), lane.room)
                if room <= 0 or max(suspects, default=0) > worst or rows:
                    break
                rows = await claim(self._db, queue, worker_id=self.worker_id, limit=room, below=worst + 1)
            await self._take(queue, rows)

    async def _run(self, queue: str, job: Job) -> None:
        structlog.contextvars.bind_contextvars(media_id=str(job.held.media_id))
        log.info("media_claimed", tries_so_far=job.number_of_tries, resumed=job.attempt is not None)
        about: dict[str, str | bool] = {"media_id": str(job.held.media_id), "model": job.model}
        try:
            with tracing.span("generate media", link=job.trace, **about):
                await self._within_deadline(job)
        except ReleaseJobError as error:
            await keep_going(transitions.hand_back(self._db, [job.held], reason=error.reason, delay=error.delay))
        except LeaseLostError:
            log.info("lease_lost")
        except Exception:
            log.exception("job_broken")
            await keep_going(self._give_up_for_now(job.held))
        finally:
            lane = self._lanes[queue]
            lane.jobs.pop(job.held, None)
            if self._by_media.get(job.held.media_id) is job:
                del self._by_media[job.held.media_id]
            if lane.backlog or job.provider in self._pace.provider_limits:
                lane.bell.set()

    async def _within_deadline(self, job: Job) -> None:
        limit = asyncio.timeout(job.terms.time_left)
        try:
            async with limit:
                await self._generation.run(job)
        except TimeoutError:
            if not limit.expired():
                raise
            # What is at the provider is looked after by `aftercare.py` from here on.
            await self._generation.expire(job)
            log.info("deadline_exceeded")
            await counters.add(self._db, counters.PersistedCounter.EXPIRED, 1)

    async def _again_and_again(self, work: Callable[[], Coroutine[Any, Any, object]], pause: timedelta) -> None:
        while True:
            await keep_going(work())
            await asyncio.sleep(pause.total_seconds())

    async def _tend(self) -> None:
        """What cannot wait for the next sweep."""
        await sweep.tend(self._db)
        await self._generation.rerouter.tend()
        wanted = {Lease(*row) for row in await queries.to_cancel(self._db, self.worker_id)}
        for lane in self._lanes.values() if wanted else ():
            for held, (job, _) in lane.jobs.items():
                if held in wanted:
                    job.cancel()
        self._nudge(await self._hearing.unheard(self.worker_id))
        for queue, lane in self._lanes.items():
            await self._claim_suspects(queue, lane)

    def _nudge(self, media_ids: Collection[UUID]) -> None:
        """Their providers have called back: ask them now."""
        for media_id in media_ids:
            if (job := self._by_media.get(media_id)) is not None:
                job.nudged.set()

    async def _keep_lease(self) -> None:
        """Register, report, sweep; forever."""
        pause = self._pace.lease.total_seconds() / BEATS_PER_LEASE
        while not await keep_going(self._register()):  # noqa: ASYNC110 - there is nobody who could tell us
            await asyncio.sleep(min(pause, 1.0))
        while True:
            await keep_going(self._beat())
            await asyncio.sleep(pause)

    async def _register(self) -> bool:
        await leases.register(self._db, self.worker_id, self._name)
        self.wake()
        return True

    async def _beat(self) -> None:
        if not await leases.beat(self._db, self.worker_id, lease=self._pace.lease):
            log.warning("worker_declared_dead", jobs=self.in_flight)
            await self._drop_jobs()
            self.worker_id = new_id()
            await self._register()

    async def _put_right(self) -> None:
        """What dead workers, lost answers and crashes have left behind."""
        await self._audit()
        returned = await sweep.sweep(
            self._db, self.worker_id, lease=self._pace.lease, most_takeovers=self._pace.most_takeovers
        )
        for queue in returned:
            self.wake(queue)
        await sweep.forget(self._db, self._uploads, key_lifetime=self._pace.key_lifetime)

    async def _audit(self) -> None:
        """Return what carries this worker's name and is not in its hands."""
        async with self._claiming:
            in_hand = [held.media_id for lane in self._lanes.values() for held in lane.jobs]
            forgotten = await transitions.return_forgotten(self._db, self.worker_id, in_hand)
        await counters.add(self._db, counters.PersistedCounter.CLAIM_ANSWERS_LOST, len(forgotten))
        for row in forgotten:
            self.wake(row["queue"])

    async def _drop_jobs(self) -> None:
        """Let go of every job; calls that are spending money go on by themselves."""
        await end(*(task for lane in self._lanes.values() for _, task in lane.jobs.values()))
