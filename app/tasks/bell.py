"""The bell as a Celery message: rung by a thread of the API, heard by the main process of a worker.

The message never reaches a pool: its strategy wakes the runner as soon as it arrives. Rings are coalesced: one
message for however many requests came in since the last, and none while earlier ones still wait to be heard.
"""

import contextlib
import threading
import time
from typing import Any, Final, Self

import structlog
from kombu import Connection

from app.core.telemetry.metrics import BROKER_FAILURES
from app.tasks.broker import BELL_HEADER, BELL_TASK, BROKER_ERRORS, bell_queue, connection, send

log = structlog.get_logger(__name__)

SHORTEST_PAUSE: Final = 0.02
"""Seconds between two rings of one process."""
ENOUGH_WAITING: Final = 8
"""Unheard rings in the broker after which another one would change nothing."""
COUNT_EVERY: Final = 1.0
"""Seconds between two looks at how many rings wait; a look costs a quarter of a ring."""
SILENCE_AFTER_FAILURE: Final = 1.0


class CeleryBell:
    """Rings through the broker from a thread of its own, so that a broker that hangs holds up nobody."""

    def __init__(self) -> None:
        self._wanted: set[str] = set()
        self._awake = threading.Event()
        self._closed = False
        self._count_again_at: dict[str, float] = {}
        self._thread = threading.Thread(target=self._main, name="fleek-bell", daemon=True)
        self._thread.start()

    def ring(self, queue: str) -> None:
        """See `Bell.ring`."""
        self._wanted.add(queue)
        self._awake.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        # Not waited for longer: what is not rung any more, a worker finds by itself.
        self._closed = True
        self._awake.set()
        self._thread.join(timeout=1)

    def _main(self) -> None:
        while True:
            broker = connection()
            try:
                if self._ring_on(broker):
                    return
            except BROKER_ERRORS as error:
                BROKER_FAILURES.add()
                log.warning("bell_failed", error=type(error).__name__)
            finally:
                with contextlib.suppress(*BROKER_ERRORS):
                    broker.close()
            time.sleep(SILENCE_AFTER_FAILURE)

    def _ring_on(self, broker: Connection) -> bool:
        """Ring over one connection; True: it is over."""
        while not self._closed or self._wanted:
            self._awake.wait()
            self._awake.clear()
            while self._wanted:
                queue = next(iter(self._wanted))
                # Before ringing: what is committed from here on is worth another ring.
                self._wanted.discard(queue)
                self._publish(broker, queue)
            time.sleep(SHORTEST_PAUSE)
        return True

    def _publish(self, broker: Connection, queue: str) -> None:
        # Once: asking for a channel would try for ever, in silence.
        broker.connect()
        channel: Any = broker.default_channel
        rung: Any = bell_queue(queue)(channel)
        if time.monotonic() > self._count_again_at.get(queue, 0.0):
            if rung.queue_declare().message_count >= ENOUGH_WAITING:
                return
            self._count_again_at[queue] = time.monotonic() + COUNT_EVERY
        send(channel, rung, BELL_TASK, headers={BELL_HEADER: queue})
