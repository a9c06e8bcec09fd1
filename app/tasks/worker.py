"""The runner's place in a Celery worker: started and stopped with it, in an event loop on a thread of its own."""

import asyncio
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import structlog
import uvloop
from celery import bootsteps
from celery.worker.consumer.delayed_delivery import DelayedDelivery
from celery.worker.consumer.gossip import Gossip
from celery.worker.consumer.mingle import Mingle

from app.core import process_memory
from app.core.database.migrations import until_migrated
from app.core.http_client.client import HttpClient
from app.core.load_settings import load_settings
from app.runtime import Runtime, open_runtime
from app.worker import announcer, build_deliverer, build_runner, waker

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger(__name__)

# Celery has options for this on the command line only: workers here need not know of each other, and asking
# around costs a second at each start.
Gossip.compatible_transports = Mingle.compatible_transports = set[str]()


def _never(self: DelayedDelivery, c: Any) -> bool:  # noqa: ARG001 - Celery's signature
    return False


# On RabbitMQ it would declare 28 quorum queues for countdowns, which nothing here has.
DelayedDelivery.include_if = _never  # type: ignore[method-assign]


class RunnerThread:
    """One runner in a thread."""

    def __init__(self) -> None:
        self._thread = threading.Thread(target=self._main, name="fleek-runner", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._told_to_stop = False
        self._wake: Callable[[str], None] | None = None

    def start(self) -> None:
        """Start the thread; does not wait for database, broker or store."""
        self._thread.start()

    def stop(self) -> None:
        """Hand jobs back and end; bounded by SHUTDOWN_SECONDS."""
        self._told_to_stop = True
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def wake(self, queue: str) -> None:
        """Ring the bell of a queue, from any thread."""
        if self._loop is not None and self._wake is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._wake, queue)

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
                loop.run(self._serve())
        except Exception:
            # A worker without a runner would look alive and do nothing.
            log.exception("runner_broken")
            os.kill(os.getpid(), signal.SIGTERM)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._told_to_stop:
            # Before there was a loop that could have been woken.
            return
        settings = load_settings()
        outgoing = HttpClient(allow_private_addresses=settings.allow_private_addresses)
        stopping = asyncio.create_task(self._stop.wait())
        async with open_runtime(settings, outgoing=outgoing, process="worker") as runtime:
            # Code that comes before its schema would take what is missing there for defects of jobs.
            migrated = asyncio.create_task(until_migrated(runtime.db))
            await asyncio.wait({stopping, migrated}, return_when=asyncio.FIRST_COMPLETED)
            if not migrated.done():
                migrated.cancel()
                return
            await migrated
            await self._run(runtime, outgoing, stopping)

    async def _run(self, runtime: Runtime, outgoing: HttpClient, stopping: asyncio.Task[bool]) -> None:
        runner, deliverer = build_runner(runtime), build_deliverer(runtime, outgoing)
        self._wake = waker(runner, deliverer)
        runtime.db.announce = announcer(runtime, deliverer)
        await deliverer.start()
        await runner.start()
        log.info("runner_started", worker_id=str(runner.worker_id))
        process_memory.settle()
        broken = asyncio.create_task(runner.watch())
        await asyncio.wait({stopping, broken}, return_when=asyncio.FIRST_COMPLETED)
        broken.cancel()
        await asyncio.gather(runner.stop(), deliverer.stop())
        if not stopping.done():
            stopping.cancel()
            raise RuntimeError("the runner ceased to work")


class RunnerStep(bootsteps.StartStopStep):
    """Hosts the runner; `ring` is how the bell's task reaches it."""

    running: RunnerThread | None = None

    def start(self, parent: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Celery starts the worker."""
        RunnerStep.running = RunnerThread()
        RunnerStep.running.start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Celery stops the worker, warm or cold."""
        if RunnerStep.running is not None:
            RunnerStep.running.stop()
            RunnerStep.running = None

    terminate = stop

    @classmethod
    def ring(cls, queue: str) -> None:
        """Wake the runner of this process, if it has one."""
        if cls.running is not None:
            cls.running.wake(queue)
