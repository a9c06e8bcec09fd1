"""Places in the product's code at which a process kills itself, so that every one of them can be tried.

The product knows nothing of them: real functions are wrapped when the process starts. CRASH_AT names the point,
CRASH_AFTER says on which passage it dies (1 if it is not set), CRASH_PROVIDER whose adapter is meant if it is not the
simulator's.
"""

import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from pkgutil import resolve_name
from typing import Any, Final

from app.media_generator.media_generator_model import Succeeded
from app.storage.s3 import PART_BYTES

Burn = Callable[[], None]
Wrap = Callable[[Callable[..., Any], Burn], Callable[..., Any]]

TRANSITIONS: Final = "app.jobs.transitions.transitions"
LATE: Final = "app.jobs.transitions.late_attempts"
NOTES: Final = "app.jobs.callbacks.signing_keys"
WORKERS: Final = "app.jobs.worker.leases"
STORE: Final = "app.storage.s3:S3Store"
PROVIDER: Final = "fleek_simulator:SimulatorMediaGeneratorModel"


def before(real: Callable[..., Awaitable[Any]], burn: Burn) -> Callable[..., Awaitable[Any]]:
    """Die on the way in."""

    @wraps(real)
    async def wrapped(*args: Any, **options: Any) -> Any:
        burn()
        return await real(*args, **options)

    return wrapped


def after(counts: Callable[[Any], Any] = lambda _: True) -> Wrap:
    """Die on the way out, when the result is one that counts."""

    def wrap(real: Callable[..., Awaitable[Any]], burn: Burn) -> Callable[..., Awaitable[Any]]:
        @wraps(real)
        async def wrapped(*args: Any, **options: Any) -> Any:
            result = await real(*args, **options)
            if counts(result):
                burn()
            return result

        return wrapped

    return wrap


async def refuse(*_args: Any, **_options: Any) -> None:
    """In place of a claim."""
    raise RuntimeError("this worker is here to die of clearing up")


def midway_open(real: Callable[..., Any], burn: Burn) -> Callable[..., Any]:
    """Die when a part of the provider's bytes is here."""

    @wraps(real)
    async def wrapped(*args: Any) -> Any:
        passed = 0
        async for chunk in real(*args):
            passed += 1
            if passed == 2:
                burn()
            yield chunk

    return wrapped


def midway_put(real: Callable[..., Any], burn: Burn) -> Callable[..., Any]:
    """Die when the first part of a large object is on its way into the store."""

    @wraps(real)
    async def wrapped(store: Any, key: str, chunks: Any, media_type: str) -> None:
        async def counted() -> Any:
            passed = 0
            async for chunk in chunks:
                passed += len(chunk)
                if passed - len(chunk) <= 2 * PART_BYTES < passed:
                    burn()
                yield chunk

        await real(store, key, counted(), media_type)

    return wrapped


def _took_any(rows: Any) -> bool:
    return any(row["id"] is not None for row in rows)


def _is_over(outcome: Any) -> bool:
    return isinstance(outcome, Succeeded)


POINTS: Final[Mapping[str, tuple[str, str, Wrap]]] = {
    "request.after": (TRANSITIONS, "request", after()),
    "callback.before": (NOTES, "note", before),
    "callback.after": (NOTES, "note", after(bool)),
    "claim.after": (TRANSITIONS, "claim", after(_took_any)),
    "suspects.after": (TRANSITIONS, "claim_suspects", after(bool)),
    "intend.before": (TRANSITIONS, "intend", before),
    "intend.after": (TRANSITIONS, "intend", after()),
    "submit.before": (PROVIDER, "submit", before),
    "submit.after": (PROVIDER, "submit", after()),
    "find.before": (PROVIDER, "find", before),
    "find.after": (PROVIDER, "find", after()),
    "purchase.before": (TRANSITIONS, "record_purchases", before),
    "purchase.after": (TRANSITIONS, "record_purchases", after()),
    "poll.first": (PROVIDER, "poll", before),
    "poll.done": (PROVIDER, "poll", after(_is_over)),
    "open.midway": (PROVIDER, "open", midway_open),
    "put.before": (STORE, "put", before),
    "put.midway": (STORE, "put", midway_put),
    "put.after": (STORE, "put", after()),
    "complete.before": (TRANSITIONS, "complete", before),
    "complete.after": (TRANSITIONS, "complete", after()),
    "retry.before": (TRANSITIONS, "schedule_retries", before),
    "retry.after": (TRANSITIONS, "schedule_retries", after()),
    "reroute.before": (TRANSITIONS, "reroute", before),
    "reroute.after": (TRANSITIONS, "reroute", after()),
    "fail.before": (TRANSITIONS, "fail", before),
    "fail.after": (TRANSITIONS, "fail", after()),
    "handback.before": (TRANSITIONS, "hand_back", before),
    "handback.after": (TRANSITIONS, "hand_back", after()),
    "stop.before": (PROVIDER, "cancel", before),
    "stop.after": (PROVIDER, "cancel", after()),
    "cancel.before": (TRANSITIONS, "cancel", before),
    "cancel.after": (TRANSITIONS, "cancel", after()),
    "expire.before": (TRANSITIONS, "expire", before),
    "expire.after": (TRANSITIONS, "expire", after()),
    "late.before": (LATE, "store", before),
    "late.after": (LATE, "store", after()),
    "bury.after": (WORKERS, "bury_silent", after(bool)),
    "orphans.after": (TRANSITIONS, "return_orphans", after(bool)),
}
"""By name: whose function it is, its name, and where around it the process dies."""
API_POINTS: Final = frozenset({"request.after", "callback.before", "callback.after"})
"""Where the API comes by, and no worker does."""
CLAIMS_NOTHING: Final = frozenset({"bury.after", "orphans.after"})
"""Who is to die of clearing up must not claim what it has just returned: it would be blamed for that, too."""


def arm(environment: Mapping[str, str]) -> None:
    """Wrap the function of the point that the environment names, if it names one."""
    name = environment.get("CRASH_AT")
    if name is None:
        return
    place, function, wrap = POINTS[name]
    if place == PROVIDER:
        place = environment.get("CRASH_PROVIDER", PROVIDER)
    if name in CLAIMS_NOTHING:
        resolve_name(TRANSITIONS).claim = refuse
    owner = resolve_name(place)
    left = int(environment.get("CRASH_AFTER", "1"))

    def burn() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, function, wrap(getattr(owner, function), burn))
