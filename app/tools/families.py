"""Turns persisted counts into Prometheus' counters and histograms."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from app.core.telemetry.metrics import ABOVE, METRICS, MICRO, SUM, Counter, Metric, parse_counter_key
from app.jobs.metrics.counters import PersistedCounter
from app.tools.exposition import Family, Sample

Series: TypeAlias = dict[tuple[str, ...], dict[str, int]]
"""By label values: the number of each part."""

LEASES_EXPIRED: Final = ("fleek_leases_expired", "Workers that stopped reporting while they held a lease.")
SWEEP_FOUND: Final = ("fleek_sweep_found", "What sweeps found and repaired.")


def families_of(counts: Mapping[str, int]) -> Iterator[Family]:
    """Every counter and histogram; one that was never counted is 0 where its labels are known."""
    numbers = {counted: counts.get(counted, 0) for counted in PersistedCounter}
    expired = numbers.pop(PersistedCounter.LEASES_EXPIRED)
    yield _counters(*LEASES_EXPIRED, (), [Sample((), expired)])
    yield _counters(*SWEEP_FOUND, ("what",), [Sample((counted,), number) for counted, number in numbers.items()])
    kept = _by_metric(counts)
    for metric in METRICS:
        series = kept[metric.name]
        if not metric.labels:
            series.setdefault((), {})
        yield _counter(metric, series) if isinstance(metric, Counter) else _histogram(metric, series)


def _by_metric(counts: Mapping[str, int]) -> defaultdict[str, Series]:
    kept = defaultdict[str, Series](dict)
    labels_of = {metric.name: metric.labels for metric in METRICS}
    for key, count in counts.items():
        parsed = parse_counter_key(key)
        # Other versions may have metrics that this one does not have.
        if parsed is not None and len(labels_of.get(parsed[0], ())) == len(parsed[1]):
            metric, labels, part = parsed
            kept[metric].setdefault(labels, {})[part] = count
    return kept


def _counters(name: str, description: str, labels: tuple[str, ...], samples: list[Sample]) -> Family:
    return Family(f"{name}_total", "counter", description, labels, samples)


def _counter(metric: Counter, series: Series) -> Family:
    samples = [Sample(labels, parts.get("", 0) / metric.unit) for labels, parts in series.items()]
    return _counters(metric.name, metric.description, metric.labels, samples)


def _histogram(metric: Metric, series: Series) -> Family:
    samples = [sample for labels, parts in series.items() for sample in _series(metric, labels, parts)]
    return Family(metric.name, "histogram", metric.description, metric.labels, samples)


def _series(metric: Metric, labels: tuple[str, ...], parts: Mapping[str, int]) -> Iterator[Sample]:
    counts = [0] * (len(metric.bounds) + 1)
    for part, count in parts.items():
        if part != SUM:
            # A bound of another version counts in the next higher bucket.
            counts[bisect_left(metric.bounds, float(part))] += count
    below = 0
    for bound, count in zip((*map(str, metric.bounds), ABOVE), counts, strict=True):
        below += count
        yield Sample(labels, below, "_bucket", bound)
    yield Sample(labels, below, "_count")
    yield Sample(labels, parts.get(SUM, 0) / MICRO, "_sum")
