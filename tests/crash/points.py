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

TRANSITIONS: Final = "app.jobs.transitions."
"""Those that share their statements are wrapped where the statement is run, `many`."""
LEASES: Final = "app.jobs.worker.leases"
RUNNER: Final = "app.jobs.worker.runner"
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


def _took_any(claim: Any) -> bool:
    return bool(claim.media)


def _is_over(outcome: Any) -> bool:
    return isinstance(outcome, Succeeded)


POINTS: Final[Mapping[str, tuple[str, str, Wrap]]] = {
    "request.after": ("app.media.intake.submit", "request", after()),
    "callback.before": (TRANSITIONS + "callback", "record_callback", before),
    "callback.after": (TRANSITIONS + "callback", "record_callback", after(bool)),
    "claim.after": (RUNNER, "claim", after(_took_any)),
    "suspects.after": (RUNNER, "claim_suspects", after(bool)),
    "intend.before": (TRANSITIONS + "attempt:intend", "many", before),
    "intend.after": (TRANSITIONS + "attempt:intend", "many", after()),
    "submit.before": (PROVIDER, "submit", before),
    "submit.after": (PROVIDER, "submit", after()),
    "find.before": (PROVIDER, "find", before),
    "find.after": (PROVIDER, "find", after()),
    "purchase.before": (TRANSITIONS + "attempt:record_purchases", "many", before),
    "purchase.after": (TRANSITIONS + "attempt:record_purchases", "many", after()),
    "poll.first": (PROVIDER, "poll", before),
    "poll.done": (PROVIDER, "poll", after(_is_over)),
    "open.midway": (PROVIDER, "open", midway_open),
    "put.before": (STORE, "put", before),
    "put.midway": (STORE, "put", midway_put),
    "put.after": (STORE, "put", after()),
    "complete.before": (TRANSITIONS + "completion:complete", "many", before),
    "complete.after": (TRANSITIONS + "completion:complete", "many", after()),
    "retry.before": (TRANSITIONS + "failure:schedule_retries", "many", before),
    "retry.after": (TRANSITIONS + "failure:schedule_retries", "many", after()),
    "reroute.before": (TRANSITIONS + "reroute:reroute", "many", before),
    "reroute.after": (TRANSITIONS + "reroute:reroute", "many", after()),
    "fail.before": (TRANSITIONS + "failure:fail", "many", before),
    "fail.after": (TRANSITIONS + "failure:fail", "many", after()),
    "handback.before": (TRANSITIONS + "release", "return_held", before),
    "handback.after": (TRANSITIONS + "release", "return_held", after()),
    "stop.before": (PROVIDER, "cancel", before),
    "stop.after": (PROVIDER, "cancel", after()),
    "cancel.before": (TRANSITIONS + "cancellation:cancel", "many", before),
    "cancel.after": (TRANSITIONS + "cancellation:cancel", "many", after()),
    "expire.before": (TRANSITIONS + "expiry:expire", "many", before),
    "expire.after": (TRANSITIONS + "expiry:expire", "many", after()),
    "late.before": (TRANSITIONS + "late_attempts", "store", before),
    "late.after": (TRANSITIONS + "late_attempts", "store", after()),
    "expired.after": (LEASES, "remove_expired", after(bool)),
    "orphans.after": (TRANSITIONS + "release", "return_orphans", after(bool)),
}
"""By name: whose function it is, its name, and where around it the process dies."""
API_POINTS: Final = frozenset({"request.after", "callback.before", "callback.after"})
"""Where the API comes by, and no worker does."""
CLAIMS_NOTHING: Final = frozenset({"expired.after", "orphans.after"})
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
        resolve_name(RUNNER).claim = refuse
    owner = resolve_name(place)
    left = int(environment.get("CRASH_AFTER", "1"))

    def burn() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, function, wrap(getattr(owner, function), burn))
