"""Small tasks of the worker's pool: an id or a key in, one use case. The wake-up signal's task is never run."""

from typing import Any

import redis
from celery import Task

from app.core.load_settings import load_settings
from app.tasks.broker import BELL_TASK, PING_TASK
from app.tasks.celery import app

PONG_SECONDS = 30


class BellTask(Task[Any, Any]):
    """Consumed, not run; see `bell_consumer.py`."""

    name = BELL_TASK
    Strategy = "app.tasks.bell_consumer:wake_runner"

    def run(self, *_args: Any, **_kwargs: Any) -> None:
        """Never called: the strategy consumes the message."""


app.register_task(BellTask())


@app.task(name=PING_TASK)
def ping(reply_to: str) -> None:
    """Reply on a list in Redis: proof that a message passes through broker, worker and pool."""
    address = load_settings().redis_url.get_secret_value()
    with redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType] - its options are untyped
        address, socket_timeout=3, socket_connect_timeout=3
    ) as client:
        client.lpush(reply_to, "pong")
        client.expire(reply_to, PONG_SECONDS)
