"""What processes count about themselves, and the list of it all.

Counting is cheap and in memory. Every few seconds a process adds its counts to the table `tallies`, so any API
answers for all processes at once (`app/jobs/metrics/reporter.py`); a process that is killed takes the last few seconds
of its counts with it. Label values are few by design; beyond MOST_SERIES of one measure the rest counts as `other`.
"""

import asyncio
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final, Self

import msgspec

MOST_SERIES: Final = 300
"""Combinations of label values that one process keeps for one measure."""
MICRO: Final = 1_000_000
SUM: Final = "sum"
"""The part of a histogram that is no bucket, in millionths."""
ABOVE: Final = "+Inf"

QUICK: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds for what should take milliseconds."""
SLOW: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds in seconds for calls over a network."""
LONG: Final = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""Upper bounds in seconds for generations."""
SHARES: Final = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)


class Measure:
    """Numbers under one name, one set for each combination of label values; may be used from any thread."""

    def __init__(self, name: str, says: str, labels: Sequence[str] = (), bounds: Sequence[float] = ()) -> None:
        """A counter, or with `bounds` a histogram.

        Args:
            name: As Prometheus sees it, without `_total`.
            says: What it tells, a sentence.
            labels: Their names.
            bounds: Upper bounds of the buckets, rising.
        """
        self.name = name
        self.says = says
        self.labels = tuple(labels)
        self.bounds = tuple(bounds)
        self.parts = (*(str(bound) for bound in bounds), ABOVE, SUM) if bounds else ("",)
        """What each number of a series is."""
        self._lock = threading.Lock()
        self._series: dict[tuple[str, ...], list[int]] = {}

    def take(self) -> dict[str, int]:
        """What has been counted since the last time, by the name of its tally; it is forgotten here."""
        taken: dict[str, int] = {}
        with self._lock:
            for labels, numbers in self._series.items():
                for index, number in enumerate(numbers):
                    if number:
                        taken[tally_name(self.name, labels, self.parts[index])] = number
                        numbers[index] = 0
        return taken

    def _numbers(self, labels: tuple[str, ...]) -> list[int]:
        """The numbers of one series; the caller holds the lock."""
        if (known := self._series.get(labels)) is not None:
            return known
        if len(self._series) >= MOST_SERIES:
            labels = ("other",) * len(self.labels)
        return self._series.setdefault(labels, [0] * len(self.parts))


class Counter(Measure):
    """Counts; what is no whole number is kept in millionths."""

    def __init__(self, name: str, says: str, labels: Sequence[str] = (), *, unit: int = 1) -> None:
        """A counter.

        Args:
            name: As Prometheus sees it, without `_total`.
            says: What it tells, a sentence.
            labels: Their names.
            unit: How many of what is kept make one: 1 or MICRO.
        """
        super().__init__(name, says, labels)
        self.unit = unit

    def add(self, *labels: str, number: float = 1) -> None:
        """Count `number` more."""
        with self._lock:
            self._numbers(labels)[0] += round(number * self.unit)


class Histogram(Measure):
    """How long something took, or what share of something was in use."""

    def observe(self, value: float, *labels: str) -> None:
        """Count one value; a negative one, as of clocks that differ, counts as 0."""
        value = max(value, 0.0)
        with self._lock:
            numbers = self._numbers(labels)
            numbers[bisect_left(self.bounds, value)] += 1
            numbers[-1] += round(value * MICRO)


class Timed:
    """Measures the block: its time, under `labels` and what came of it."""

    __slots__ = ("_begun", "_histogram", "_labels", "outcome")

    def __init__(self, histogram: Histogram, *labels: str) -> None:
        self._histogram = histogram
        self._labels = labels
        self.outcome = "ok"

    def __enter__(self) -> Self:
        self._begun = time.perf_counter()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            self.outcome = self.word_for(error)
        self._histogram.observe(time.perf_counter() - self._begun, *self._labels, self.outcome)

    def word_for(self, error: BaseException) -> str:
        """What an error counts as; few different ones."""
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            return "broken_off"
        return "timeout" if isinstance(error, TimeoutError) else "failed"


def tally_name(measure: str, labels: Sequence[str], part: str) -> str:
    """The name under which one number is kept."""
    return msgspec.json.encode([measure, *labels, part]).decode()


def read_tally_name(name: str) -> tuple[str, tuple[str, ...], str] | None:
    """Measure, labels and part; None: it is the name of something else."""
    if not name.startswith("["):
        return None
    measure, *labels, part = msgspec.json.decode(name, type=list[str])
    return measure, tuple(labels), part


REQUESTS: Final = Histogram(
    "fleek_http_request_duration_seconds",
    "Time until an answer begins; `wait` is `asked` where the client wanted to wait for news.",
    ("method", "route", "status", "wait"),
    QUICK,
)
PROVIDER_CALLS: Final = Histogram(
    "fleek_provider_call_duration_seconds",
    "Calls of providers' adapters; `outcome` is `ok` or the code of an error.",
    ("provider", "operation", "outcome"),
    SLOW,
)
STORE_CALLS: Final = Histogram(
    "fleek_store_call_duration_seconds", "Calls of the store.", ("operation", "outcome"), SLOW
)
ATTEMPTS: Final = Counter(
    "fleek_attempts",
    "Tries that ended, by what came of them; `code` is the error's.",
    ("provider", "outcome", "code"),
)
MEDIA_SECONDS: Final = Histogram(
    "fleek_media_duration_seconds", "From the request to COMPLETED.", ("provider", "model"), LONG
)
COST: Final = Counter(
    "fleek_cost_dollars", "What providers said that tries have cost.", ("provider", "model"), unit=MICRO
)
STORED_BYTES: Final = Counter("fleek_stored_bytes", "Bytes of outputs that went into the store.", ("provider",))
WEBHOOK_TRIES: Final = Histogram(
    "fleek_webhook_try_duration_seconds",
    "Requests to receivers of webhooks; `outcome` is `ok`, the class of another answer, or `unanswered`.",
    ("outcome",),
    SLOW,
)
BROKER_FAILURES: Final = Counter("fleek_broker_publish_failures", "Bells that the broker did not take.")
NEWS_FAILURES: Final = Counter("fleek_news_failures", "News between processes that Redis did not take.")
NEWS_UNHEARD: Final = Counter(
    "fleek_news_unheard_seconds", "Time that API processes could not hear the others' news.", unit=MICRO
)
LOOP_LAG: Final = Histogram(
    "fleek_event_loop_lag_seconds", "How late the event loop wakes up, looked at each second.", ("process",), QUICK
)
POOL_USE: Final = Histogram(
    "fleek_database_pool_use_ratio",
    "Share of a process's connections to PostgreSQL that are in use, looked at each second.",
    ("process",),
    SHARES,
)
POOL_WAITS: Final = Counter("fleek_database_pool_waits", "Statements that waited for a connection.", ("process",))
LOGS_DROPPED: Final = Counter("fleek_log_events_dropped", "Log events of media that did not get into the database.")

MEASURES: Final[Sequence[Measure]] = (
    *(REQUESTS, PROVIDER_CALLS, STORE_CALLS, ATTEMPTS, MEDIA_SECONDS, COST, STORED_BYTES),
    *(WEBHOOK_TRIES, BROKER_FAILURES, NEWS_FAILURES, NEWS_UNHEARD, LOOP_LAG, POOL_USE, POOL_WAITS, LOGS_DROPPED),
)


def take_all() -> Iterator[tuple[str, int]]:
    """What this process has counted since the last time."""
    for measure in MEASURES:
        yield from measure.take().items()
