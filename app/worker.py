"""Builds the runner and the deliverer of a worker process from its open resources and settings."""

from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from app.core.bell import WEBHOOKS
from app.core.change_channel import CALLBACKS, ChangeChannel
from app.core.config import Settings
from app.core.database.pool import Change, ChangeListener
from app.core.http_client.addresses import refusal
from app.core.http_client.protocol import NoCalls
from app.jobs.callbacks.listener import CallbackListener
from app.jobs.execution.answer_keeper import AnswerKeeper
from app.jobs.execution.executor import JobExecutor
from app.jobs.execution.failures import FailureHandler
from app.jobs.execution.fallback import RouteFallback
from app.jobs.execution.late_results import LateResults
from app.jobs.execution.submission import Submitter
from app.jobs.inputs.staging import InputPolicy, InputStaging
from app.jobs.outputs.ingest import OutputIngest
from app.jobs.outputs.signatures import signer_of
from app.jobs.policies import JobPolicy, OutputLimits
from app.jobs.retry_policy import RetryPolicy
from app.jobs.worker.runner import Runner, RunnerParts
from app.jobs.worker.slots import WorkerSettings
from app.jobs.worker.troubles import Troubles
from app.media.events.payloads import Event, Payloads
from app.runtime import Runtime
from app.storage.raw_answers import StoredRawAnswers
from app.webhooks.delivery import Deliverer, DeliverySettings
from app.webhooks.delivery_queries import ClaimedDelivery

if TYPE_CHECKING:
    from app.core.http_client.client import HttpClient

SIGNED_AT_LEAST: Final = timedelta(hours=1)
SIGNED_AT_MOST: Final = timedelta(days=7)
"""The longest that S3 accepts."""


def waker(runner: Runner, deliverer: Deliverer) -> Callable[[str], None]:
    """Wakes the runner or the deliverer at a signal for a queue."""
    return lambda queue: deliverer.wake() if queue == WEBHOOKS else runner.wake(queue)


def change_publisher(runtime: Runtime, deliverer: Deliverer) -> ChangeListener:
    """Publishes changes to other processes, and wakes this one's deliverer if deliveries are due."""

    def publish(changes: Collection[Change], *, deliveries_due: bool) -> None:
        runtime.changes.publish(changes)
        if deliveries_due:
            deliverer.wake()

    return publish


def build_deliverer(runtime: Runtime, outgoing: "HttpClient") -> Deliverer:
    """The webhook deliverer of this process; call it in the event loop that will run it."""
    settings = runtime.settings
    payloads = Payloads(runtime.db, settings.public_url)

    async def bodies(deliveries: Sequence[ClaimedDelivery]) -> list[bytes]:
        return await payloads.of([Event(taken.type, taken.at, taken.sequence, taken.media_id) for taken in deliveries])

    pace = DeliverySettings(
        per_receiver=settings.webhook_connections,
        interval=timedelta(seconds=settings.claim_interval_seconds),
        lifetime=timedelta(days=settings.webhook_log_days),
        shutdown_timeout=timedelta(seconds=settings.shutdown_seconds),
    )
    return Deliverer(runtime.db, outgoing, bodies, pace)


def _input_policy(settings: Settings) -> InputPolicy:
    address = settings.s3_signing_url
    # Providers cannot reach a private address, even if this machine can.
    public = address == "aws" or (
        address is not None and address.startswith("https://") and refusal(address, allow_private=False) is None
    )
    return InputPolicy(
        store_is_public=public,
        url_lifetime=min(max(timedelta(hours=settings.silence_hours), SIGNED_AT_LEAST), SIGNED_AT_MOST),
        allow_private=settings.allow_private_addresses,
    )


def _job_policy(settings: Settings) -> JobPolicy:
    return JobPolicy(
        retry=RetryPolicy(
            max_tries=settings.max_tries,
            base=timedelta(seconds=settings.retry_base_seconds),
            longest=timedelta(seconds=settings.retry_max_seconds),
        ),
        limits=OutputLimits(
            max_bytes=settings.max_output_bytes,
            max_pixels=settings.max_pixels,
            copies=settings.output_copies,
            lowest_speed=settings.output_lowest_speed,
            longest_copy=settings.output_copy_seconds,
            fetched_again_for=timedelta(seconds=settings.output_retry_seconds),
        ),
        reconcile=timedelta(seconds=settings.reconcile_seconds),
        circuit_pause=timedelta(seconds=settings.provider_pause_seconds),
        late_result=timedelta(seconds=settings.late_result_seconds),
        silence=timedelta(hours=settings.silence_hours),
        callback_base=settings.callback_base,
    )


def _worker_settings(settings: Settings) -> WorkerSettings:
    return WorkerSettings(
        slots={"network": settings.worker_slots, "local": settings.worker_local_slots},
        interval=timedelta(seconds=settings.claim_interval_seconds),
        lease=timedelta(seconds=settings.lease_seconds),
        key_lifetime=timedelta(days=settings.idempotency_days),
        stuck_after=timedelta(seconds=settings.stuck_seconds),
        patience=timedelta(seconds=settings.shutdown_seconds),
        ageing=timedelta(seconds=settings.ageing_seconds),
        most_takeovers=settings.max_takeovers,
        trial_pause=timedelta(seconds=settings.provider_pause_seconds),
        provider_limits=settings.provider_limits,
    )


def build_runner(runtime: Runtime) -> Runner:
    """The runner of this process; call it in the event loop that will run it."""
    db, registry, settings = runtime.db, runtime.registry, runtime.settings
    policy = _job_policy(settings)
    ingest = OutputIngest(runtime.store, policy.limits, mark_outputs=settings.mark_outputs, signer=signer_of(settings))
    fallback = RouteFallback(db, registry)
    answers = AnswerKeeper(db, StoredRawAnswers(runtime.store))
    failures = FailureHandler(db, policy, fallback, answers)
    uploads = runtime.uploads()
    inputs = InputStaging(db, runtime.store, uploads, runtime.outgoing or NoCalls(), _input_policy(settings))
    submitter = Submitter(db, policy, inputs, failures)
    parts = RunnerParts(
        executor=JobExecutor(db, registry, policy, submitter, ingest, failures),
        submitter=submitter,
        fallback=fallback,
        late_results=LateResults(db, registry, policy, ingest, answers),
        callbacks=CallbackListener(db, registry, ChangeChannel(runtime.cache, CALLBACKS), policy),
        uploads=uploads,
        troubles=Troubles(runtime.cache, settings.database_dsn),
    )
    return Runner(db, parts, _worker_settings(settings))
