"""Health checks of everything a process depends on; each is bounded, and says what to do."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final

import asyncpg
import structlog
from redis.exceptions import RedisError

from app.core import clock
from app.core.database.clock_check import compare_clocks
from app.core.database.migrations import Revisions, current_revision, revisions
from app.core.database.pool import UNAVAILABLE
from app.core.redaction import redacted
from app.jobs.metrics import gauges
from app.jobs.scheduling import model_pauses, provider_circuits
from app.jobs.states import PAUSED_BY_OPERATOR
from app.jobs.worker.troubles import Troubles
from app.media_generator.registry import UnknownModelError
from app.runtime import Runtime
from app.storage.store import StoreError
from app.tasks.broker import on_rabbitmq, reach

log = structlog.get_logger(__name__)

CHECK_SECONDS: Final = 3.0
_UNKNOWN: Final = "unknown while the database does not answer"


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check; `detail` and `hint` contain no address and no secret."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


async def check_all(runtime: Runtime) -> list[Check]:
    """Check database, migrations, broker, store and providers, concurrently."""
    known = asyncio.to_thread(revisions)
    return list(
        await asyncio.gather(
            _bounded(
                "database",
                _database(runtime),
                "is PostgreSQL running, and are DATABASE_URL or POSTGRES_* right?",
            ),
            _bounded("migrations", _migrations(runtime, known), "run: fleek prepare"),
            _bounded(
                "broker",
                _broker(runtime),
                "are REDIS_URL and BROKER_URL right, and are those servers running?",
            ),
            _bounded("clock", _clock(runtime), "let this machine keep its time by NTP, or that of the database"),
            _bounded("workers", _workers(runtime), "read the log of the worker that is named"),
            _bounded("store", _store(runtime), "check S3_ENDPOINT_URL, BUCKET_NAME and the AWS_ keys"),
            _bounded(
                "providers",
                _providers(runtime),
                "check the settings, key and credit of what is named, replace a model that is gone (if it is not: "
                "fleek jobs resume NAME), reinstall or remove a plug-in, or set DEFAULT_MODEL to one of /models",
            ),
        )
    )


class _CheckFailedError(Exception):
    """A check found a problem."""


async def _bounded(name: str, check: Awaitable[str], hint: str) -> Check:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return Check(name, ok=True, detail=redacted(await check))
    except _CheckFailedError as error:
        return Check(name, ok=False, detail=redacted(str(error)), hint=hint)
    except StoreError as error:
        return Check(name, ok=False, detail=redacted(str(error)), hint=hint)
    except (*UNAVAILABLE, RedisError) as error:
        log.warning("check_failed", check=name, error=repr(error))
        return Check(name, ok=False, detail=f"does not answer ({type(error).__name__})", hint=hint)
    except Exception as error:
        # A wrong password or a missing database: the log has the details.
        log.exception("check_failed", check=name)
        return Check(name, ok=False, detail=f"refuses us ({type(error).__name__})", hint=hint)


async def _database(runtime: Runtime) -> str:
    row = await runtime.db.fetchrow("SHOW server_version")
    return f"PostgreSQL {row[0].split()[0]}" if row else "answers"


async def _migrations(runtime: Runtime, known: Awaitable[Revisions]) -> str:
    mine = await known
    present = await current_revision(runtime.db)
    if not mine.is_compatible_with(present):
        raise _CheckFailedError(f"the database is at revision {present}, this code needs {mine.newest}")
    return f"at revision {present}" if present == mine.newest else f"at revision {present} of a newer release"


async def _broker(runtime: Runtime) -> str:
    if runtime.settings.broker_dsn == runtime.settings.redis_url.get_secret_value():
        await runtime.cache.get("fleek:ready")
        return "answers"
    name = "RabbitMQ" if on_rabbitmq else "the broker"
    results = await asyncio.gather(asyncio.to_thread(reach), runtime.cache.get("fleek:ready"), return_exceptions=True)
    silent = [
        f"{who} does not answer ({type(error).__name__})"
        for who, error in zip((name, "Redis"), results, strict=True)
        if isinstance(error, Exception)
    ]
    if silent:
        raise _CheckFailedError("; ".join(silent))
    return f"{name} and Redis answer"


async def _clock(runtime: Runtime) -> str:
    try:
        ahead = await compare_clocks(runtime.db)
    except UNAVAILABLE:
        return _UNKNOWN
    if abs(ahead) > clock.OFF_SECONDS:
        raise _CheckFailedError(f"this machine's clock is {clock.in_words(ahead)}, which is used instead")
    return "agrees with the database's"


async def _workers(runtime: Runtime) -> str:
    try:
        number = await gauges.workers(runtime.db)
    except UNAVAILABLE:
        return _UNKNOWN
    if found := await Troubles(runtime.cache, runtime.settings.database_dsn).read():
        raise _CheckFailedError("; ".join(found))
    return f"{number} reporting"


async def _store(runtime: Runtime) -> str:
    await runtime.store.check()
    return f"bucket {runtime.settings.bucket_name} answers"


async def _providers(runtime: Runtime) -> str:
    wrong = [f"{name}: {why}" for name, why in runtime.registry.load_errors.items()]
    unavailable, paused = await _unavailable(runtime)
    wrong += unavailable
    if wrong:
        raise _CheckFailedError("; ".join(wrong))
    try:
        runtime.registry.resolve(runtime.settings.default_model)
    except UnknownModelError as error:
        raise _CheckFailedError(f"DEFAULT_MODEL is {error.name!r}, which no provider offers") from None
    offers = ", ".join(offer.full_name for offer in runtime.registry.offers())
    return f"{offers}; paused by the operator: {', '.join(paused)}" if paused else offers


async def _unavailable(runtime: Runtime) -> tuple[list[str], list[str]]:
    """Which providers are unavailable and which models are gone, with the reasons; and what the operator has paused.

    A pause by the operator is not a problem. An unreachable database is reported by another check.
    """
    try:
        async with asyncio.timeout(CHECK_SECONDS / 2):
            tripped = await provider_circuits.tripped(runtime.db)
            paused = await model_pauses.paused(runtime.db)
    except (*UNAVAILABLE, asyncpg.PostgresError):
        return [], []
    reasons = [(row.provider, row.code, row.message) for row in tripped]
    reasons += [(row.model, row.code, row.message) for row in paused]
    return [f"{name} is unavailable: {message}" for name, code, message in reasons if code != PAUSED_BY_OPERATOR], [
        name for name, code, _ in reasons if code == PAUSED_BY_OPERATOR
    ]
