"""The gauges as Prometheus reads them."""

from collections.abc import Iterator

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from app.core.bell import Bell
from app.core.connections import UNAVAILABLE
from app.media import gauges
from app.media.gauges import Gauges
from app.media.tallies import Counted
from app.runtime import Runtime

__all__ = ["CONTENT_TYPE_LATEST", "metrics"]

log = structlog.get_logger(__name__)


async def metrics(runtime: Runtime, bell: Bell) -> bytes:
    """Everything there is to watch; without a database only what this process knows by itself."""
    try:
        seen = await gauges.read(runtime.hot)
    except UNAVAILABLE as error:
        log.warning("metrics_incomplete", error=type(error).__name__)
        seen = None
    registry = CollectorRegistry()
    registry.register(_Collected([*_of_this_process(runtime, bell), *_of_the_fleet(seen)]))
    return generate_latest(registry)


class _Collected:
    """Numbers that were read already, since reading them takes an event loop."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        yield from self._families


def _gauge(name: str, says: str, value: float) -> Metric:
    return GaugeMetricFamily(f"fleek_{name}", says, value=value)


def _of_this_process(runtime: Runtime, bell: Bell) -> Iterator[Metric]:
    lost = "Bells of this API process that the broker did not take; workers find the jobs by themselves."
    yield CounterMetricFamily("fleek_broker_publish_failures", lost, value=bell.failures)
    dropped = "Log events of this process that did not get into the database."
    yield CounterMetricFamily("fleek_log_events_dropped", dropped, value=runtime.recorder.dropped)


def _of_the_fleet(seen: Gauges | None) -> Iterator[Metric]:
    yield _gauge("database_up", "Whether the database answers; if not, the other gauges are missing.", seen is not None)
    if seen is None:
        return
    depth = GaugeMetricFamily("fleek_queue_depth", "Jobs that wait, by model.", labels=["model"])
    oldest = GaugeMetricFamily("fleek_queue_oldest_seconds", "Wait of the oldest job that is due.", labels=["model"])
    running = GaugeMetricFamily("fleek_running", "Jobs in workers' hands, by model.", labels=["model"])
    for model, numbers in seen.models.items():
        depth.add_metric([model], numbers.waiting)
        oldest.add_metric([model], numbers.oldest_seconds)
        running.add_metric([model], numbers.running)
    yield from (depth, oldest, running)
    closed = GaugeMetricFamily(
        "fleek_provider_closed", "Providers from which nothing is bought now, and why.", labels=["provider", "code"]
    )
    for provider, code in seen.closed.items():
        closed.add_metric([provider, code], 1)
    yield closed
    yield _gauge("workers", "Workers that report.", seen.workers)
    yield _gauge("attempts_unknown", "Tries that may have been paid, held for a decision.", seen.attempts_unknown)
    yield _gauge("attempts_late", "Purchases looked after although their media is over.", seen.attempts_late)
    expired = seen.counts[Counted.LEASES_EXPIRED]
    yield CounterMetricFamily("fleek_leases_expired", "Workers that fell silent with their lease.", value=expired)
    found = CounterMetricFamily("fleek_sweep_found", "What sweeps had to put right.", labels=["what"])
    for counted, number in seen.counts.items():
        if counted is not Counted.LEASES_EXPIRED:
            found.add_metric([counted], number)
    yield found
