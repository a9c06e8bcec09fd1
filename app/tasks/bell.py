"""The wake-up signal as a Celery message: sent by a thread of the API, consumed by the main process of a worker.

The message never reaches a pool: its strategy wakes the runner as soon as it arrives. Signals are coalesced: one
message for all requests since the last one, and none while enough earlier ones wait in the broker.
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

MIN_PAUSE: Final = 0.02
"""Seconds between two messages of one process."""
ENOUGH_PENDING: Final = 8
"""Unconsumed messages in the broker from which on another one is not needed."""
COUNT_INTERVAL: Final = 1.0
"""Seconds between two counts of the unconsumed messages; a count costs a quarter of a message."""
PAUSE_AFTER_FAILURE: Final = 1.0


class CeleryBell:
    """Sends from a thread of its own, so that a hanging broker delays no request."""

    def __init__(self) -> None:
        self._due: set[str] = set()
        self._wake = threading.Event()
        self._closed = False
        self._count_again_at: dict[str, float] = {}
        self._thread = threading.Thread(target=self._main, name="fleek-bell", daemon=True)
        self._thread.start()

    def ring(self, queue: str) -> None:
        """See `Bell.ring`."""
        self._due.add(queue)
        self._wake.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        # No longer: workers find by polling what is not signalled any more.
        self._closed = True
        self._wake.set()
        self._thread.join(timeout=1)

    def _main(self) -> None:
        while True:
            broker = connection()
            try:
                if self._send_signals(broker):
                    return
            except BROKER_ERRORS as error:
                BROKER_FAILURES.add()
                log.warning("wake_up_signal_failed", error=type(error).__name__)
            finally:
                with contextlib.suppress(*BROKER_ERRORS):
                    broker.close()
            time.sleep(PAUSE_AFTER_FAILURE)

    def _send_signals(self, broker: Connection) -> bool:
        """Send signals over one connection; True: the bell is closed."""
        while not self._closed or self._due:
            self._wake.wait()
            self._wake.clear()
            while self._due:
                queue = next(iter(self._due))
                # Before sending: a commit from here on needs another signal.
                self._due.discard(queue)
                self._publish(broker, queue)
            time.sleep(MIN_PAUSE)
        return True

    def _publish(self, broker: Connection, queue: str) -> None:
        # Explicitly: requesting a channel would retry forever, silently.
        broker.connect()
        channel: Any = broker.default_channel
        target: Any = bell_queue(queue)(channel)
        if time.monotonic() > self._count_again_at.get(queue, 0.0):
            if target.queue_declare().message_count >= ENOUGH_PENDING:
                return
            self._count_again_at[queue] = time.monotonic() + COUNT_INTERVAL
        send(channel, target, BELL_TASK, headers={BELL_HEADER: queue})
