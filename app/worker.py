"""Puts the engines of a worker process together from its open parts and its settings."""

from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from app.core.bell import WEBHOOKS
from app.core.change_channel import CALLBACKS, News
from app.core.config import Settings
from app.core.database.pool import Announce, Change
from app.core.http_client.addresses import refusal
from app.core.http_client.protocol import NoCalls
from app.jobs.callbacks.listener import Hearing
from app.jobs.execution.executor import Generation
from app.jobs.execution.failures import Settlement
from app.jobs.execution.fallback import Rerouter
from app.jobs.execution.late_results import Aftercare
from app.jobs.execution.submission import Purchasing
from app.jobs.inputs.staging import InputFiles, InputRules
from app.jobs.outputs.ingest import Copier
from app.jobs.policies import Limits, RetryPolicy, Rules
from app.jobs.transitions.group_commit import Writes
from app.jobs.worker.runner import Runner
from app.jobs.worker.slots import Pace
from app.media.events.payloads import Event, Payloads
from app.runtime import Runtime
from app.webhooks.delivery import Deliverer, Taken
from app.webhooks.delivery import Pace as DeliveryPace

if TYPE_CHECKING:
    from app.core.http_client.client import Outgoing

SIGNED_AT_LEAST: Final = timedelta(hours=1)
SIGNED_AT_MOST: Final = timedelta(days=7)
"""S3 takes no longer one."""


def waker(runner: Runner, deliverer: Deliverer) -> Callable[[str], None]:
    """What rings when the bell of a queue rings."""
    return lambda queue: deliverer.wake() if queue == WEBHOOKS else runner.wake(queue)


def announcer(runtime: Runtime, deliverer: Deliverer) -> Announce:
    """Tells other processes of changes, and this one's deliverer of what it has to send."""

    def announce(changes: Collection[Change], *, posted: bool) -> None:
        runtime.news.tell(changes)
        if posted:
            deliverer.wake()

    return announce


def build_deliverer(runtime: Runtime, outgoing: "Outgoing") -> Deliverer:
    """What sends the webhooks of this process; call it in the event loop that will run it."""
    settings = runtime.settings
    payloads = Payloads(runtime.hot, settings.public_url)

    async def bodies(deliveries: Sequence[Taken]) -> list[bytes]:
        return await payloads.of([Event(taken.type, taken.at, taken.sequence, taken.media_id) for taken in deliveries])

    pace = DeliveryPace(
        per_receiver=settings.webhook_connections,
        interval=timedelta(seconds=settings.claim_interval_seconds),
        lifetime=timedelta(days=settings.webhook_log_days),
        patience=timedelta(seconds=settings.shutdown_seconds),
    )
    return Deliverer(runtime.hot, outgoing, bodies, pace)


def _input_rules(settings: Settings) -> InputRules:
    address = settings.s3_signing_url
    # Other people's computers reach no private address, whatever this machine may.
    public = address == "aws" or (
        address is not None and address.startswith("https://") and refusal(address, allow_private=False) is None
    )
    return InputRules(
        store_is_public=public,
        url_lifetime=min(max(timedelta(hours=settings.silence_hours), SIGNED_AT_LEAST), SIGNED_AT_MOST),
        allow_private=settings.allow_private_addresses,
    )


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
        callback_base=settings.callback_base,
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
    settlement = Settlement(writes, rules, Rerouter(hot, writes, runtime.registry))
    uploads = runtime.uploads()
    inputs = InputFiles(hot, runtime.store, uploads, runtime.outgoing or NoCalls(), _input_rules(settings))
    purchasing = Purchasing(hot, writes, settlement, rules, inputs)
    generation = Generation(writes, runtime.registry, copier, purchasing, settlement)
    aftercare = Aftercare(hot, writes, runtime.registry, copier, rules)
    hearing = Hearing(hot, runtime.registry, News(runtime.cache, CALLBACKS), rules)
    return Runner(hot, generation, aftercare, hearing, uploads, pace)
