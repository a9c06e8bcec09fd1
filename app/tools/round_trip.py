"""A round trip: a task through broker, worker and pool, and its reply."""

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from redis.exceptions import RedisError

from app.core import clock
from app.core.errors import UnavailableError
from app.core.ids import new_id
from app.runtime import Runtime
from app.tasks.broker import BROKER_ERRORS, MAINTENANCE, PING_TASK, connection, send

REPLY_SECONDS: Final = 5.0


class WorkerSilentError(UnavailableError):
    """No worker replied in time."""

    code = "worker_silent"
    title = "No worker answers"


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A completed round trip."""

    milliseconds: float


async def round_trip(runtime: Runtime) -> RoundTrip:
    """Send a task to any worker and wait for its reply, five seconds at most.

    Raises:
        WorkerSilentError: There was none.
    """
    started = time.perf_counter()
    reply_to = f"fleek:pong:{new_id()}"
    try:
        async with asyncio.timeout(REPLY_SECONDS):
            await asyncio.to_thread(_send, reply_to)
            answer = await _answer(runtime.cache, reply_to, until=started + REPLY_SECONDS)
    except BROKER_ERRORS:
        answer = None
    except RedisError:
        answer = None
    if answer is None:
        seconds = round(REPLY_SECONDS)
        raise WorkerSilentError(f"no worker answered within {seconds} seconds; is one running, and the broker up?")
    return RoundTrip(round((time.perf_counter() - started) * 1000, 1))


def _send(reply_to: str) -> None:
    with connection() as broker:
        # Explicitly: requesting a channel would retry forever, silently.
        broker.connect()
        channel: Any = broker.default_channel
        MAINTENANCE(channel).queue_declare()
        send(channel, MAINTENANCE, PING_TASK, [reply_to], expires=clock.now() + timedelta(seconds=REPLY_SECONDS))


async def _answer(cache: Any, reply_to: str, *, until: float) -> object:
    # Its own clock: `wait_for` of Python 3.11, in the Redis client, sometimes swallows the surrounding time-out.
    while time.perf_counter() < until:
        if (pong := await cache.lpop(reply_to)) is not None:
            return pong
        # Short waits: the Redis client times out after half a second.
        await asyncio.sleep(0.02)
    return None
