"""Opens the resources of a process and closes them in reverse: the same for API, worker, command line and tests."""

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import redis.asyncio as redis
import structlog

from app.core import production_checks
from app.core.bell import Bell
from app.core.change_channel import ChangeChannel
from app.core.config import Settings, variables
from app.core.database.pool import Change, ChangeListener, DatabasePool
from app.core.redaction import learn
from app.core.telemetry import tracing
from app.core.telemetry.sentry import report_errors
from app.jobs.inputs.validation import InputValidator
from app.jobs.metrics.reporter import MetricsReporter, Process
from app.jobs.scheduling.availability import AvailabilityCache
from app.jobs.scheduling.queue_position import QueuePositions
from app.logs.recorder import Recorder
from app.media.context import MediaServices
from app.media_generator.catalogue import read_catalogue
from app.media_generator.loading import ProviderConfig, load_registry
from app.media_generator.registry import Registry
from app.storage.raw_answers import StoredRawAnswers
from app.storage.s3 import S3Store
from app.storage.signing import SignedUrls
from app.storage.store import Store
from app.uploads.service import UploadLimits, Uploads
from app.webhooks.receivers import Receivers

if TYPE_CHECKING:
    from app.core.http_client.client import HttpClient

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Runtime:
    """The open resources of one process."""

    settings: Settings
    db: DatabasePool
    store: Store
    registry: Registry
    cache: "redis.Redis"
    recorder: Recorder
    changes: ChangeChannel
    outgoing: "HttpClient | None"
    """The client for other services; None in the API, which calls none."""

    def uploads(self) -> Uploads:
        """Stores and removes input files; one for the process."""
        limits = UploadLimits(
            max_bytes=self.settings.max_upload_bytes,
            max_pixels=self.settings.max_pixels,
            lifetime=timedelta(hours=self.settings.upload_hours),
        )
        return Uploads(self.db, self.store, limits)

    def media_services(self, bell: Bell) -> MediaServices:
        """The services that the use cases of media need."""
        uploads = self.uploads()
        return MediaServices(
            db=self.db,
            registry=self.registry,
            bell=bell,
            store=self.store,
            urls=SignedUrls(self.store, self.cache, self.settings),
            queue_positions=QueuePositions(self.db),
            availability=AvailabilityCache(self.db),
            receivers=Receivers(self.db, allow_private=self.settings.allow_private_addresses),
            uploads=uploads,
            inputs=InputValidator(self.db, uploads, allow_private=self.settings.allow_private_addresses),
            answers=StoredRawAnswers(self.store),
            default_model=self.settings.default_model,
            key_lifetime=timedelta(days=self.settings.idempotency_days),
        )


def provider_config_of(settings: Settings) -> ProviderConfig:
    """The operator's configuration of providers.

    Raises:
        SettingsError: The catalogue is invalid.
    """
    return ProviderConfig(variables(), settings.provider_accounts, read_catalogue(settings.catalogue_file))


def _change_publisher(channel: ChangeChannel) -> ChangeListener:
    def publish(changes: Collection[Change], *, deliveries_due: bool) -> None:  # noqa: ARG001 - for worker and API only
        channel.publish(changes)

    return publish


def _connections(settings: Settings, stack: AsyncExitStack) -> tuple[DatabasePool, "redis.Redis"]:
    """Database and cache, not connected yet."""
    db = DatabasePool(
        settings.database_dsn,
        size=settings.database_connections,
        prepared=settings.database_prepared_statements,
    )
    stack.push_async_callback(db.close)
    cache = redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType] - its options are untyped
        settings.redis_url.get_secret_value(), socket_timeout=0.5, socket_connect_timeout=0.5
    )
    stack.push_async_callback(cache.aclose)
    return db, cache


@asynccontextmanager
async def open_runtime(
    settings: Settings,
    registry: Registry | None = None,
    outgoing: "HttpClient | None" = None,
    *,
    process: Process = "tool",
) -> AsyncGenerator[Runtime]:
    """Open everything, without connecting to any server yet.

    Args:
        settings: The settings of this process.
        registry: The providers; None: the installed ones.
        outgoing: The client for other services, closed with the rest; None: this process calls none. Not created here,
            because its library takes 8 MiB that the API does not need.
        process: The label of its metrics.

    Raises:
        SettingsError: As `provider_config_of`.
    """
    async with AsyncExitStack() as stack:
        learn(settings.secrets)
        report_errors(settings)
        for caution in production_checks.cautions(settings):
            log.warning("production_caution", caution=caution)
        tracing.start(settings)
        stack.push_async_callback(asyncio.to_thread, tracing.stop)
        db, cache = _connections(settings, stack)
        if outgoing is not None:
            stack.push_async_callback(outgoing.close)
        store = S3Store(settings)
        providers = registry or load_registry(provider_config_of(settings), outgoing, StoredRawAnswers(store))
        stack.push_async_callback(providers.close)
        recorder = Recorder(db)
        recorder.start()
        stack.push_async_callback(recorder.stop)
        changes = ChangeChannel(cache)
        db.on_change = _change_publisher(changes)
        stack.push_async_callback(changes.close)
        reporter = MetricsReporter(process, db, changes)
        reporter.start()
        stack.push_async_callback(reporter.stop)
        yield Runtime(settings, db, store, providers, cache, recorder, changes, outgoing)
