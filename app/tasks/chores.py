"""Small tasks of the worker's pool: an id or a key in, one use case, nothing else."""

import redis

from app.core.config import load_settings
from app.tasks.celery import app

PONG_SECONDS = 30


@app.task(name="fleek.ping")
def ping(reply_to: str) -> None:
    """Answer on a list in Redis: proof that a message goes through broker, worker and pool."""
    address = load_settings().redis_url.get_secret_value()
    with redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType] - its options are untyped
        address, socket_timeout=3, socket_connect_timeout=3
    ) as client:
        client.lpush(reply_to, "pong")
        client.expire(reply_to, PONG_SECONDS)
