"""The runner's place in a Celery worker: started and stopped with it, in an event loop on a thread of its own."""

import asyncio
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import structlog
import uvloop
from celery import bootsteps
from celery.worker.consumer.gossip import Gossip
from celery.worker.consumer.mingle import Mingle

from app.core import memory
from app.core.config import load_settings
from app.core.outgoing import Outgoing
from app.engine import announcer, build_deliverer, build_runner, waker
from app.runtime import open_runtime

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger(__name__)

# Celery has options for this on the command line only: workers here need not know of each other, and asking
# around costs a second at each start.
Gossip.compatible_transports = Mingle.compatible_transports = set[str]()


class RunnerThread:
    """One runner in a thread."""

    def __init__(self) -> None:
        self._thread = threading.Thread(target=self._main, name="fleek-runner", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._wake: Callable[[str], None] | None = None

    def start(self) -> None:
        """Start the thread; does not wait for database, broker or store."""
        self._thread.start()

    def stop(self) -> None:
        """Hand jobs back and end; bounded by SHUTDOWN_SECONDS."""
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
        settings = load_settings()
        outgoing = Outgoing(allow_private_addresses=settings.allow_private_addresses)
        async with open_runtime(settings, outgoing=outgoing) as runtime:
            runner, deliverer = build_runner(runtime), build_deliverer(runtime, outgoing)
            self._wake = waker(runner, deliverer)
            runtime.hot.announce = announcer(runtime, deliverer)
            await deliverer.start()
            await runner.start()
            log.info("runner_started", worker_id=str(runner.worker_id))
            memory.settle()
            stopping, broken = (asyncio.create_task(wait) for wait in (self._stop.wait(), runner.watch()))
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
