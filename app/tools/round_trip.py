"""A real round trip: a task through broker, worker and pool, and its answer back."""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from redis.exceptions import RedisError

from app.core.errors import UnavailableError
from app.core.ids import new_id
from app.runtime import Runtime
from app.tasks.broker import BROKER_ERRORS, CHORES, PING_TASK, connection, send

PATIENCE_SECONDS: Final = 5.0


class WorkerSilentError(UnavailableError):
    """No worker answered in time."""

    code = "worker_silent"
    title = "No worker answers"


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A round trip that came back."""

    milliseconds: float


async def round_trip(runtime: Runtime) -> RoundTrip:
    """Send a task to any worker and wait for its answer, five seconds at most.

    Raises:
        WorkerSilentError: None came.
    """
    begun = time.perf_counter()
    reply_to = f"fleek:pong:{new_id()}"
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.to_thread(_send, reply_to)
            answer = await _answer(runtime.cache, reply_to, until=begun + PATIENCE_SECONDS)
    except BROKER_ERRORS:
        answer = None
    except RedisError:
        answer = None
    if answer is None:
        seconds = round(PATIENCE_SECONDS)
        raise WorkerSilentError(f"no worker answered within {seconds} seconds; is one running, and the broker up?")
    return RoundTrip(round((time.perf_counter() - begun) * 1000, 1))


def _send(reply_to: str) -> None:
    with connection() as broker:
        # Once: asking for a channel would try for ever, in silence.
        broker.connect()
        channel: Any = broker.default_channel
        CHORES(channel).queue_declare()
        send(channel, CHORES, PING_TASK, [reply_to], expires=datetime.now(UTC) + timedelta(seconds=PATIENCE_SECONDS))


async def _answer(cache: Any, reply_to: str, *, until: float) -> object:
    # A clock of its own: `wait_for` of Python 3.11, in the cache's client, at times swallows the time-out around this.
    while time.perf_counter() < until:
        if (pong := await cache.lpop(reply_to)) is not None:
            return pong
        # Short waits: the cache's client gives up on an answer after half a second.
        await asyncio.sleep(0.02)
    return None
