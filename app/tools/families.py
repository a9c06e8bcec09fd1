"""Tallies as Prometheus' counters and histograms."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from app.core.telemetry.metrics import ABOVE, MEASURES, MICRO, SUM, Counter, Measure, read_tally_name
from app.jobs.metrics.counters import PersistedCounter
from app.tools.exposition import Family, Sample

Series: TypeAlias = dict[tuple[str, ...], dict[str, int]]
"""By label values: the number of each part."""

LEASES_EXPIRED: Final = ("fleek_leases_expired", "Workers that fell silent with their lease.")
SWEEP_FOUND: Final = ("fleek_sweep_found", "What sweeps had to put right.")


def families_of(tallies: Mapping[str, int]) -> Iterator[Family]:
    """Every counter and histogram; what has never been counted is 0 where its labels are known."""
    numbers = {counted: tallies.get(counted, 0) for counted in PersistedCounter}
    expired = numbers.pop(PersistedCounter.LEASES_EXPIRED)
    yield _counters(*LEASES_EXPIRED, (), [Sample((), expired)])
    yield _counters(*SWEEP_FOUND, ("what",), [Sample((counted,), number) for counted, number in numbers.items()])
    kept = _by_measure(tallies)
    for measure in MEASURES:
        series = kept[measure.name]
        if not measure.labels:
            series.setdefault((), {})
        yield _counter(measure, series) if isinstance(measure, Counter) else _histogram(measure, series)


def _by_measure(tallies: Mapping[str, int]) -> defaultdict[str, Series]:
    kept = defaultdict[str, Series](dict)
    labels_of = {measure.name: measure.labels for measure in MEASURES}
    for name, count in tallies.items():
        read = read_tally_name(name)
        # Other versions may have counted what this one does not know.
        if read is not None and len(labels_of.get(read[0], ())) == len(read[1]):
            measure, labels, part = read
            kept[measure].setdefault(labels, {})[part] = count
    return kept


def _counters(name: str, says: str, labels: tuple[str, ...], samples: list[Sample]) -> Family:
    return Family(f"{name}_total", "counter", says, labels, samples)


def _counter(measure: Counter, series: Series) -> Family:
    samples = [Sample(labels, parts.get("", 0) / measure.unit) for labels, parts in series.items()]
    return _counters(measure.name, measure.says, measure.labels, samples)


def _histogram(measure: Measure, series: Series) -> Family:
    samples = [sample for labels, parts in series.items() for sample in _series(measure, labels, parts)]
    return Family(measure.name, "histogram", measure.says, measure.labels, samples)


def _series(measure: Measure, labels: tuple[str, ...], parts: Mapping[str, int]) -> Iterator[Sample]:
    counts = [0] * (len(measure.bounds) + 1)
    for part, count in parts.items():
        if part != SUM:
            # A bound of another version falls into the next bucket above it.
            counts[bisect_left(measure.bounds, float(part))] += count
    below = 0
    for bound, count in zip((*map(str, measure.bounds), ABOVE), counts, strict=True):
        below += count
        yield Sample(labels, below, "_bucket", bound)
    yield Sample(labels, below, "_count")
    yield Sample(labels, parts.get(SUM, 0) / MICRO, "_sum")
