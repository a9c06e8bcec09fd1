"""Runs the runner in a Celery worker: started and stopped with it, in an event loop on its own thread."""

import asyncio
import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import structlog
import uvloop
from celery import bootsteps
from celery.worker.consumer.delayed_delivery import DelayedDelivery
from celery.worker.consumer.gossip import Gossip
from celery.worker.consumer.mingle import Mingle

from app.core import process_memory
from app.core.database.clock_check import compare_clocks
from app.core.database.migrations import until_migrated
from app.core.database.pool import UNAVAILABLE
from app.core.http_client.client import HttpClient
from app.core.http_client.proxies import proxies_of
from app.core.load_settings import load_settings
from app.runtime import Runtime, open_runtime
from app.worker import build_deliverer, build_runner, change_publisher, waker

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger(__name__)

EXIT_SECONDS: Final = 60.0
"""After SHUTDOWN_SECONDS, until a worker whose runner has stopped by itself ends without further waiting."""

# Celery has only command-line options for this: workers need not know each other, and their discovery costs a second
# at each start.
Gossip.compatible_transports = Mingle.compatible_transports = set[str]()


def _never(self: DelayedDelivery, c: Any) -> bool:  # noqa: ARG001 - Celery's signature
    return False


# On RabbitMQ it would declare 28 quorum queues for countdowns, which are not used here.
DelayedDelivery.include_if = _never  # type: ignore[method-assign]


class RunnerThread:
    """One runner in a thread."""

    def __init__(self) -> None:
        self._thread = threading.Thread(target=self._main, name="fleek-runner", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._stop_requested = False
        self._wake: Callable[[str], None] | None = None

    def start(self) -> None:
        """Start the thread; does not wait for database, broker or store."""
        self._thread.start()

    def stop(self) -> None:
        """Release jobs and end; bounded by SHUTDOWN_SECONDS."""
        self._stop_requested = True
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def wake(self, queue: str) -> None:
        """Wake the runner for a queue, from any thread."""
        if self._loop is not None and self._wake is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._wake, queue)

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
                loop.run(self._serve())
        except Exception:
            # A worker without a runner would look healthy and do nothing.
            log.exception("runner_crashed")
            os.kill(os.getpid(), signal.SIGTERM)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._stop_requested:
            # Stopped before there was a loop to notify.
            return
        settings = load_settings()
        outgoing = HttpClient(allow_private_addresses=settings.allow_private_addresses, proxies=proxies_of(settings))
        stopping = asyncio.create_task(self._stop.wait())
        async with open_runtime(settings, outgoing=outgoing, process="worker") as runtime:
            # Without its schema, this code would take missing columns for bugs and fail jobs.
            migrated = asyncio.create_task(until_migrated(runtime.db))
            await asyncio.wait({stopping, migrated}, return_when=asyncio.FIRST_COMPLETED)
            if not migrated.done():
                migrated.cancel()
                return
            await migrated
            await self._run(runtime, outgoing, stopping)

    async def _run(self, runtime: Runtime, outgoing: HttpClient, stopping: asyncio.Task[bool]) -> None:
        with suppress(*UNAVAILABLE):
            await compare_clocks(runtime.db)
        runner, deliverer = build_runner(runtime), build_deliverer(runtime, outgoing)
        self._wake = waker(runner, deliverer)
        runtime.db.on_change = change_publisher(runtime, deliverer)
        await deliverer.start()
        await runner.start()
        log.info("runner_started", worker_id=str(runner.worker_id))
        process_memory.trim()
        broken = asyncio.create_task(runner.watch())
        await asyncio.wait({stopping, broken}, return_when=asyncio.FIRST_COMPLETED)
        broken.cancel()
        if not stopping.done():
            _end_at_last(EXIT_SECONDS + runtime.settings.shutdown_seconds)
        await asyncio.gather(runner.stop(), deliverer.stop())
        if not stopping.done():
            stopping.cancel()
            raise RuntimeError("the runner stopped unexpectedly")


def _end_at_last(seconds: float) -> None:
    """End this process then, whatever it waits for: what does not come round may not be cancelled, either."""
    last = threading.Timer(seconds, os._exit, (os.EX_SOFTWARE,))
    last.daemon = True
    last.start()


class RunnerStep(bootsteps.StartStopStep):
    """Hosts the runner; wake-up signals reach it through `wake`."""

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
    def wake(cls, queue: str) -> None:
        """Wake the runner of this process, if it has one."""
        if cls.running is not None:
            cls.running.wake(queue)
