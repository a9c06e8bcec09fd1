"""Receives wake-up signals in a worker's main process, as soon as the message arrives, whatever its pool."""

from collections.abc import Callable
from typing import Any

from app.tasks.broker import BELL_HEADER
from app.tasks.worker import RunnerStep


def wake_runner(_task: Any, _app: Any, _consumer: Any, **_options: Any) -> Callable[..., None]:
    """The strategy of the signal's task: what Celery does with its message instead of running it."""

    def on_message(message: Any, _body: Any, *_callbacks: Any, **_more: Any) -> None:
        # Not acknowledged: its queue has no_ack, and acknowledging would still cost a call to Redis.
        RunnerStep.wake(message.headers.get(BELL_HEADER, "network"))

    return on_message
