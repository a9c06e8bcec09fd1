"""The metrics page in Prometheus' text format. Any API process reports for all processes.

Reading is bounded: scrapes close together share one read, and reads take a tenth of the time at most.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import structlog

from app.core.database.pool import UNAVAILABLE, DatabasePool
from app.jobs.metrics import gauges
from app.tools.exposition import Family, Sample, text
from app.tools.families import families_of
from app.webhooks import gauges as webhook_gauges

log = structlog.get_logger(__name__)

Values: TypeAlias = Mapping[str, Sequence[tuple[tuple[str, ...], float]]]
"""By the name of a gauge: label values and number."""

CACHE_SECONDS: Final = 2.0
"""How long a page is reused."""
REST_PER_READ: Final = 10.0
"""A page is kept at least so many times as long as reading it took."""
READ_SECONDS: Final = 4.0
"""Time-out for the database; Prometheus itself gives up after ten seconds."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """A number that is read from the tables."""

    name: str
    description: str
    labels: Sequence[str] = ()


GAUGES: Final = (
    Gauge("fleek_database_up", "Whether the database responds; if not, this is the only number."),
    Gauge("fleek_queue_depth", "Waiting jobs, by model.", ("model",)),
    Gauge("fleek_queue_oldest_seconds", "How long the oldest due job has waited.", ("model",)),
    Gauge("fleek_running", "Jobs held by workers, by model.", ("model",)),
    Gauge("fleek_provider_unavailable", "Providers to which nothing is submitted now, and why.", ("provider", "code")),
    Gauge("fleek_model_paused", "Models to which nothing is submitted now, and why.", ("model", "code")),
    Gauge("fleek_workers", "Workers that are reporting."),
    Gauge("fleek_attempts_unknown", "Attempts that may have been charged, held for a decision."),
    Gauge("fleek_attempts_late", "Purchases followed up although their media item is final."),
    Gauge("fleek_webhook_deliveries_pending", "Pending deliveries, by their endpoint's status.", ("endpoint",)),
    Gauge("fleek_webhook_oldest_due_seconds", "How long the oldest deliverable delivery has been due."),
    Gauge("fleek_webhook_endpoints", "Webhook endpoints, by status.", ("status",)),
)


class MetricsPage:
    """The page of one process; belongs to one event loop."""

    def __init__(self, db: DatabasePool) -> None:
        self._db = db
        self._page = b""
        self._good_until = 0.0
        self._reading = asyncio.Lock()

    async def read(self) -> bytes:
        """All metrics; without a database only `fleek_database_up`."""
        async with self._reading:
            if time.monotonic() > self._good_until:
                started = time.monotonic()
                self._page = await self._render()
                now = time.monotonic()
                self._good_until = now + max(CACHE_SECONDS, (now - started) * REST_PER_READ)
            return self._page

    async def _render(self) -> bytes:
        try:
            async with asyncio.timeout(READ_SECONDS):
                media, webhooks = await gauges.read(self._db), await webhook_gauges.read(self._db)
        except UNAVAILABLE as error:
            log.warning("metrics_incomplete", error=type(error).__name__)
            return text(_gauges({"fleek_database_up": [((), 0)]}))
        return text([*_gauges({**_of_media(media), **_of_webhooks(webhooks)}), *families_of(media.counters)])


def _of_media(seen: gauges.Gauges) -> Values:
    models = seen.models.items()
    return {
        "fleek_database_up": [((), 1)],
        "fleek_queue_depth": [((model,), numbers.waiting) for model, numbers in models],
        "fleek_queue_oldest_seconds": [((model,), numbers.oldest_seconds) for model, numbers in models],
        "fleek_running": [((model,), numbers.running) for model, numbers in models],
        "fleek_provider_unavailable": [((provider, code), 1) for provider, code in seen.unavailable.items()],
        "fleek_model_paused": [((model, code), 1) for model, code in seen.paused.items()],
        "fleek_workers": [((), seen.workers)],
        "fleek_attempts_unknown": [((), seen.attempts_unknown)],
        "fleek_attempts_late": [((), seen.attempts_late)],
    }


def _of_webhooks(seen: webhook_gauges.WebhookGauges) -> Values:
    return {
        "fleek_webhook_deliveries_pending": [((status,), number) for status, number in seen.pending.items()],
        "fleek_webhook_oldest_due_seconds": [((), seen.oldest_seconds)],
        "fleek_webhook_endpoints": [((status,), number) for status, number in seen.endpoints.items()],
    }


def _gauges(values: Values) -> Iterator[Family]:
    for gauge in GAUGES:
        if gauge.name in values:
            samples = [Sample(labels, value) for labels, value in values[gauge.name]]
            yield Family(gauge.name, "gauge", gauge.description, gauge.labels, samples)
