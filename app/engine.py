"""Puts the engine of a worker process together from its open parts and its settings."""

from datetime import timedelta

from app.media.aftercare import Aftercare
from app.media.copying import Copier
from app.media.generation import Generation
from app.media.lanes import Pace
from app.media.purchasing import Purchasing
from app.media.retry import RetryPolicy
from app.media.rules import Limits, Rules
from app.media.runner import Runner
from app.media.settlement import Settlement
from app.media.writes import Writes
from app.runtime import Runtime


def build_runner(runtime: Runtime) -> Runner:
    """The runner of this process; call it in the event loop that will run it."""
    hot, settings = runtime.hot, runtime.settings
    rules = Rules(
        retry=RetryPolicy(
            max_tries=settings.max_tries,
            base=timedelta(seconds=settings.retry_base_seconds),
            longest=timedelta(seconds=settings.retry_max_seconds),
        ),
        limits=Limits(max_bytes=settings.max_output_bytes, max_pixels=settings.max_pixels),
        reconcile=timedelta(seconds=settings.reconcile_seconds),
        gate_pause=timedelta(seconds=settings.provider_pause_seconds),
        late_result=timedelta(seconds=settings.late_result_seconds),
        silence=timedelta(hours=settings.silence_hours),
    )
    pace = Pace(
        slots={"network": settings.worker_slots, "local": settings.worker_local_slots},
        interval=timedelta(seconds=settings.claim_interval_seconds),
        lease=timedelta(seconds=settings.lease_seconds),
        key_lifetime=timedelta(hours=settings.idempotency_hours),
        patience=timedelta(seconds=settings.shutdown_seconds),
        ageing=timedelta(seconds=settings.ageing_seconds),
        most_takeovers=settings.max_takeovers,
        trial_pause=rules.gate_pause,
        provider_limits=settings.provider_limits,
    )
    writes, copier = Writes(hot), Copier(runtime.store, rules.limits)
    settlement = Settlement(writes, rules)
    purchasing = Purchasing(hot, writes, settlement, rules)
    generation = Generation(writes, runtime.registry, copier, purchasing, settlement)
    return Runner(hot, writes, generation, Aftercare(hot, writes, runtime.registry, copier, rules), pace)
