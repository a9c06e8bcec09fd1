"""The runner: one event loop in each worker process that claims due jobs and keeps them in flight.

What a crash leaves behind is repaired by the sweep of any other worker; see `sweep.py`.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

import structlog

from app.core import clock
from app.core.database.pool import RETRYABLE, DatabasePool
from app.core.ids import new_id
from app.core.task_cancellation import cancel_and_wait
from app.core.telemetry import metrics, tracing
from app.jobs import notices, queries
from app.jobs.callbacks.listener import CallbackListener
from app.jobs.execution.executor import JobExecutor, JobMustWaitError
from app.jobs.execution.fallback import RouteFallback
from app.jobs.execution.job import Job
from app.jobs.execution.late_results import LateResults
from app.jobs.execution.submission import Submitter
from app.jobs.job_errors import JOB_BROKEN
from app.jobs.metrics import counters
from app.jobs.states import SUSPECT_FROM
from app.jobs.transitions import release
from app.jobs.transitions.base import Lease, LeaseLostError
from app.jobs.transitions.claim import ClaimedMedia, ClaimTerms, claim, claim_suspects
from app.jobs.transitions.expiry import expire
from app.jobs.worker import leases, sweep
from app.jobs.worker.slots import NOBODY, QueueSlots, WorkerSettings
from app.jobs.worker.troubles import Troubles
from app.jobs.worker.watchdog import Watchdog
from app.uploads.service import Uploads

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

MOST_CLOCK_SECONDS: Final = 900.0
"""By which a clock may be off; S3 refuses requests that are signed with one that is worse."""
MOST_AT_ONCE: Final = 200
"""Jobs in one claim."""
BEATS_PER_LEASE: Final = 6
KEYS_EVERY: Final = timedelta(minutes=1)
"""Between two checks whether a provider's keys have to be fetched."""
SUSPECTS_AT_ONCE: Final = ((SUSPECT_FROM, 128), (SUSPECT_FROM + 1, 8), (2**31 - 2, 1))
"""How many media with so many takeovers one worker holds at the same time: the more takeovers, the fewer."""


@dataclass(frozen=True, slots=True)
class RunnerParts:
    """What a runner runs."""

    executor: JobExecutor
    submitter: Submitter
    fallback: RouteFallback
    late_results: LateResults
    callbacks: CallbackListener
    uploads: Uploads
    troubles: Troubles


async def keep_going(work: Coroutine[Any, Any, Result]) -> Result | None:
    """Do it; an error of the database, or a bug, is logged and ends no loop: the result is None then."""
    try:
        return await work
    except RETRYABLE as error:
        log.warning("database_unavailable", error=type(error).__name__)
    except Exception:
        log.exception("runner_error")
    await asyncio.sleep(0.2)
    return None


class Runner:
    """Claims, runs, sends heartbeats, sweeps; `wake` is the bell."""

    def __init__(self, db: DatabasePool, parts: RunnerParts, settings: WorkerSettings) -> None:
        self._db = db
        self._parts = parts
        self._settings = settings
        self.worker_id = new_id()
        self._name = f"{socket.gethostname()}/{os.getpid()}"
        self._queues = {queue: QueueSlots(slots) for queue, slots in settings.slots.items()}
        self._by_media = dict[UUID, Job]()
        """The jobs that are held, by the media's id."""
        self._claiming = asyncio.Lock()
        longest = max(settings.stuck_after, 2 * settings.lease, 4 * settings.interval)
        self._watchdog = Watchdog(db, limit=longest, lease=settings.lease)
        self._stuck = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []

    @property
    def in_flight(self) -> int:
        """Jobs that are held."""
        return sum(len(slots.jobs) for slots in self._queues.values())

    @property
    def _leases(self) -> list[Lease]:
        return [lease for slots in self._queues.values() for lease in slots.jobs]

    def wake(self, queue: str | None = None) -> None:
        """Claim due jobs now; a queue that this worker does not serve is ignored."""
        for name, slots in self._queues.items():
            if queue in {None, name}:
                slots.bell.set()

    async def start(self) -> None:
        """Begin; returns at once, also while the database is down."""
        interval, lease = self._settings.interval, self._settings.lease
        self._loops = [
            asyncio.create_task(self._keep_lease()),
            asyncio.create_task(self._repeat(self._sweep, lease / BEATS_PER_LEASE, watched_as="sweep")),
            asyncio.create_task(self._repeat(self._remove_old, lease / BEATS_PER_LEASE)),
            asyncio.create_task(self._repeat(self._handle_urgent, interval, watched_as="urgent")),
            asyncio.create_task(self._repeat(self._parts.late_results.start_due_checks, interval, watched_as="late")),
            asyncio.create_task(self._parts.callbacks.listen(self._poll_now)),
            asyncio.create_task(self._repeat(self._parts.callbacks.fetch_keys, KEYS_EVERY)),
            *(asyncio.create_task(self._serve(queue)) for queue in self._queues),
        ]

    async def watch(self) -> None:
        """Return only if the runner has stopped working by itself: a bug."""
        stuck = asyncio.create_task(self._stuck.wait())
        done, _ = await asyncio.wait([*self._loops, stuck], return_when=asyncio.FIRST_COMPLETED)
        stuck.cancel()
        for loop in done - {stuck}:
            log.error("runner_loop_ended", error=repr(loop.exception()) if not loop.cancelled() else "cancelled")

    async def stop(self) -> None:
        """Claim nothing more, let calls that spend money end, return everything else at once."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.patience.total_seconds()), self._claiming:
                pass  # a claim that is cut off would be committed without our knowing
        await cancel_and_wait(*self._loops)
        held = self._leases
        await self._parts.late_results.close()
        await self._drop_jobs()
        try:
            async with asyncio.timeout(self._settings.patience.total_seconds()):
                await self._return_all(held)
        except TimeoutError:
            log.warning("stop_incomplete", submitting=len(self._parts.submitter.submitting))
        log.info("runner_stopped", returned=len(held))

    async def _return_all(self, held: Sequence[Lease]) -> None:
        submitting = self._parts.submitter.submitting
        await keep_going(self._return([lease for lease in held if lease not in submitting]))
        await self._parts.submitter.finish()
        await keep_going(self._return([lease for lease in held if lease in submitting]))
        await keep_going(leases.unregister(self._db, self.worker_id))

    async def _return(self, held: Sequence[Lease]) -> None:
        await release.return_held(self._db, held, reason="worker_stopped", delay=timedelta(0))

    async def _serve(self, queue: str) -> None:
        """Claim whenever there is room and a reason to believe that something is due."""
        slots = self._queues[queue]
        while True:
            slots.bell.clear()
            room = slots.room if abs(clock.ahead()) <= MOST_CLOCK_SECONDS else 0
            self._watchdog.came_round(f"claims of {queue}")
            slots.backlog = room <= 0 or bool(await keep_going(self._claim(queue, slots, min(room, MOST_AT_ONCE))))
            if room > 0 and slots.backlog:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.interval.total_seconds()):
                    await slots.bell.wait()

    async def _claim(self, queue: str, slots: QueueSlots, limit: int) -> bool:
        """Claim once; True if more can be claimed now."""
        terms = ClaimTerms(
            worker_id=self.worker_id,
            scan_from_owner=slots.scan_from_owner,
            last_served_owner=slots.last_served_owner,
            ageing=self._settings.ageing,
            limits=self._settings.provider_limits,
            trial_pause=self._settings.trial_pause,
        )
        async with self._claiming:
            claimed = await claim(self._db, queue, terms, limit=limit)
            jobs = await self._take(queue, claimed.media)
        slots.scan_from_owner = claimed.next_owner or NOBODY
        if jobs:
            slots.last_served_owner = jobs[-1].owner_id
        return claimed.next_owner is not None or (bool(jobs) and claimed.more)

    async def _claim_suspects(self, queue: str, slots: QueueSlots) -> None:
        """Claim poison suspects: a few at a time, the worst of them alone."""
        suspects = [job.terms.takeovers for job, _ in slots.jobs.values() if job.terms.takeovers >= SUSPECT_FROM]
        async with self._claiming:
            rows = list[ClaimedMedia]()
            for worst, at_once in SUSPECTS_AT_ONCE:
                room = min(at_once - len(suspects), slots.room)
                if room <= 0 or max(suspects, default=0) > worst or rows:
                    break
                rows = await claim_suspects(self._db, queue, worker_id=self.worker_id, limit=room, below=worst + 1)
            await self._take(queue, rows)

    async def _take(self, queue: str, rows: Sequence[ClaimedMedia]) -> list[Job]:
        """Begin to work on what was claimed; a row that cannot be read must not take the others with it."""
        jobs: list[Job] = []
        for row in rows:
            try:
                job = Job.of(row)
            except Exception:
                log.exception("job_unreadable", media_id=str(row.id))
                await keep_going(self._return_broken(Lease(row.id, row.fence)))
                continue
            jobs.append(job)
            self._watchdog.job_moved_at = clock.seconds()
            self._by_media[job.lease.media_id] = job
            self._queues[queue].jobs[job.lease] = job, asyncio.create_task(self._run(queue, job))
        return jobs

    async def _return_broken(self, lease: Lease) -> None:
        """Return a job at which this worker failed; it is counted, so that it reaches an end."""
        await release.return_broken(self._db, lease, JOB_BROKEN.as_json)
        await counters.add(self._db, counters.PersistedCounter.JOBS_BROKEN, 1)

    async def _run(self, queue: str, job: Job) -> None:
        try:
            structlog.contextvars.bind_contextvars(media_id=str(job.lease.media_id))
            log.info("media_claimed", tries_so_far=job.number_of_tries, resumed=job.attempt is not None)
            about: dict[str, str | bool] = {"media_id": str(job.lease.media_id), "model": job.model}
            with tracing.span("generate media", link=job.trace, **about):
                await self._run_within_deadline(job)
        except JobMustWaitError as error:
            waits_for = notices.returned(error.reason)
            await keep_going(
                release.return_held(self._db, [job.lease], reason=error.reason, delay=error.delay, waits_for=waits_for)
            )
        except LeaseLostError:
            log.info("lease_lost")
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            # Also what is no Exception, such as a panic of a library in Rust: nobody else would hear of it.
            log.exception("job_broken")
            await keep_going(self._return_broken(job.lease))
        finally:
            self._watchdog.job_moved_at = clock.seconds()
            slots = self._queues[queue]
            slots.jobs.pop(job.lease, None)
            if self._by_media.get(job.lease.media_id) is job:
                del self._by_media[job.lease.media_id]
            if slots.backlog or job.provider in self._settings.provider_limits:
                slots.bell.set()

    async def _run_within_deadline(self, job: Job) -> None:
        limit = asyncio.timeout(job.terms.time_left)
        try:
            async with limit:
                await self._parts.executor.run(job)
        except TimeoutError:
            if not limit.expired():
                raise
            # From here on `late_results.py` follows up what is at the provider.
            await expire(self._db, job.lease)
            log.info("deadline_exceeded")
            await counters.add(self._db, counters.PersistedCounter.EXPIRED, 1)

    async def _repeat(
        self, work: Callable[[], Coroutine[Any, Any, object]], pause: timedelta, *, watched_as: str | None = None
    ) -> None:
        """Do it again and again; what waits for others than the database is not watched."""
        while True:
            if watched_as is not None:
                self._watchdog.came_round(watched_as)
            await keep_going(work())
            await asyncio.sleep(pause.total_seconds())

    async def _handle_urgent(self) -> None:
        """What cannot wait for the next sweep: deadlines, cancel requests, callbacks, fallbacks and poison suspects."""
        await sweep.sweep_urgent(self._db)
        await self._parts.fallback.move_waiting()
        await self._deliver_cancel_requests()
        self._poll_now(await self._parts.callbacks.take_callbacks(self.worker_id))
        for queue, slots in self._queues.items():
            await self._claim_suspects(queue, slots)

    async def _deliver_cancel_requests(self) -> None:
        """Tell the jobs held here whose owners want them canceled."""
        requested = {Lease(row.id, row.fence) for row in await queries.cancel_requests(self._db, self.worker_id)}
        for slots in self._queues.values() if requested else ():
            for lease, (job, _) in slots.jobs.items():
                if lease in requested:
                    job.request_cancel()

    def _poll_now(self, media_ids: Collection[UUID]) -> None:
        """Their providers have called back: poll them now."""
        for media_id in media_ids:
            if (job := self._by_media.get(media_id)) is not None:
                job.poll_now.set()

    async def _keep_lease(self) -> None:
        """Register and send heartbeats, forever."""
        pause = self._settings.lease.total_seconds() / BEATS_PER_LEASE
        while not await keep_going(self._register()):  # noqa: ASYNC110 - there is nobody who could notify us
            await asyncio.sleep(min(pause, 1.0))
        while True:
            await keep_going(self._heartbeat())
            await asyncio.sleep(pause)

    async def _register(self) -> bool:
        await leases.register(self._db, self.worker_id, self._name)
        self.wake()
        return True

    async def _heartbeat(self) -> None:
        if not await leases.heartbeat(self._db, self.worker_id, lease=self._settings.lease):
            log.warning("worker_lost_its_leases", jobs=self.in_flight)
            await self._drop_jobs()
            self.worker_id = new_id()
            await self._register()
        if clock.ahead():
            text = f"has a clock that is {clock.in_words(clock.ahead())}"
            await self._parts.troubles.tell(self._name, text, lasts=self._settings.lease)
        if stuck := self._watchdog.reported(jobs=self.in_flight):
            log.error("worker_stuck", what=stuck, jobs=self.in_flight)
            for what in stuck:
                metrics.WORKERS_STUCK.add(what)
            text = f"got nothing done ({', '.join(stuck)}) and has ended itself at {clock.now():%H:%M:%S} UTC"
            await self._parts.troubles.tell(self._name, text)
            self._stuck.set()

    async def _sweep(self) -> None:
        """Repair what dead workers, lost answers and crashes have left behind."""
        await self._audit()
        returned = await sweep.sweep(
            self._db, self.worker_id, lease=self._settings.lease, most_takeovers=self._settings.most_takeovers
        )
        for queue in returned:
            self.wake(queue)
        await self._parts.late_results.adopt()

    async def _remove_old(self) -> None:
        """Remove what has expired; apart from the sweep, because it waits for the store."""
        await sweep.remove_old(self._db, self._parts.uploads, key_lifetime=self._settings.key_lifetime)

    async def _audit(self) -> None:
        """Return media that carry this worker's id, and that it does not hold or does not work on."""
        for slots in self._queues.values():
            for lease in [lease for lease, (_, task) in slots.jobs.items() if task.done()]:
                log.error("job_without_task", media_id=str(lease.media_id))
                del slots.jobs[lease]
                self._by_media.pop(lease.media_id, None)
                slots.bell.set()
                await self._return_broken(lease)
        async with self._claiming:
            held = [lease.media_id for lease in self._leases]
            forgotten = await release.return_forgotten(self._db, self.worker_id, held)
        await counters.add(self._db, counters.PersistedCounter.CLAIM_ANSWERS_LOST, len(forgotten))
        for row in forgotten:
            self.wake(row.queue)

    async def _drop_jobs(self) -> None:
        """Let go of every job; calls that are spending money go on by themselves."""
        await cancel_and_wait(*(task for slots in self._queues.values() for _, task in slots.jobs.values()))
