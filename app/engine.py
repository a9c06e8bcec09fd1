"""Puts the engine of a worker process together from its open parts and its settings."""

from datetime import timedelta

from app.media.copying import Limits
from app.media.generation import Generation, Rules
from app.media.retry import RetryPolicy
from app.media.runner import Pace, Runner
from app.media.writes import Writes
from app.runtime import Runtime


def build_runner(runtime: Runtime) -> Runner:
    """The runner of this process; call it in the event loop that will run it."""
    settings = runtime.settings
    rules = Rules(
        retry=RetryPolicy(
            max_tries=settings.max_tries,
            base=timedelta(seconds=settings.retry_base_seconds),
            longest=timedelta(seconds=settings.retry_max_seconds),
        ),
        limits=Limits(max_bytes=settings.max_output_bytes, max_pixels=settings.max_pixels),
    )
    pace = Pace(
        slots={"network": settings.worker_slots, "local": settings.worker_local_slots},
        interval=timedelta(seconds=settings.claim_interval_seconds),
        lease=timedelta(seconds=settings.lease_seconds),
        key_lifetime=timedelta(hours=settings.idempotency_hours),
        patience=timedelta(seconds=settings.shutdown_seconds),
    )
    return Runner(runtime.hot, Generation(Writes(runtime.hot), runtime.registry, runtime.store, rules), pace)
