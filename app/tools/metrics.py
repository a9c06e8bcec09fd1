"""What an operator watches, as Prometheus reads it. Any API process answers for all processes there are.

Reading is bounded: scrapes that come close together share one read, and a read takes a tenth of the time at most.
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

KEPT_SECONDS: Final = 2.0
"""How long a page is handed out again."""
REST_PER_READ: Final = 10.0
"""A page that took long to read is kept so many times as long."""
PATIENCE_SECONDS: Final = 4.0
"""For the database; Prometheus itself gives up after ten."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """A number that is read from the tables."""

    name: str
    says: str
    labels: Sequence[str] = ()


GAUGES: Final = (
    Gauge("fleek_database_up", "Whether the database answers; if not, this is the only number."),
    Gauge("fleek_queue_depth", "Jobs that wait, by model.", ("model",)),
    Gauge("fleek_queue_oldest_seconds", "Wait of the oldest job that is due.", ("model",)),
    Gauge("fleek_running", "Jobs in workers' hands, by model.", ("model",)),
    Gauge("fleek_provider_closed", "Providers from which nothing is bought now, and why.", ("provider", "code")),
    Gauge("fleek_model_paused", "Models from which nothing is bought now, and why.", ("model", "code")),
    Gauge("fleek_workers", "Workers that report."),
    Gauge("fleek_attempts_unknown", "Tries that may have been paid, held for a decision."),
    Gauge("fleek_attempts_late", "Purchases looked after although their media is over."),
    Gauge("fleek_webhook_deliveries_pending", "Deliveries that wait, by their endpoint's status.", ("endpoint",)),
    Gauge("fleek_webhook_oldest_due_seconds", "For how long the oldest delivery that could be sent has been due."),
    Gauge("fleek_webhook_endpoints", "Endpoints of webhooks, by status.", ("status",)),
)


class MetricsPage:
    """The page of one process; belongs to one event loop."""

    def __init__(self, db: DatabasePool) -> None:
        self._db = db
        self._page = b""
        self._good_until = 0.0
        self._reading = asyncio.Lock()

    async def read(self) -> bytes:
        """Everything there is to watch; without a database only that."""
        async with self._reading:
            if time.monotonic() > self._good_until:
                begun = time.monotonic()
                self._page = await self._made_anew()
                now = time.monotonic()
                self._good_until = now + max(KEPT_SECONDS, (now - begun) * REST_PER_READ)
            return self._page

    async def _made_anew(self) -> bytes:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
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
        "fleek_provider_closed": [((provider, code), 1) for provider, code in seen.unavailable.items()],
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
            yield Family(gauge.name, "gauge", gauge.says, gauge.labels, samples)
