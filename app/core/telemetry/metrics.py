"""Counters and histograms of a process, and the list of all metrics.

Counting is cheap and in memory. Every few seconds a process adds its counts to the table `tallies`, so any API
reports for all processes (`app/jobs/metrics/reporter.py`); a killed process loses its last few seconds of counts.
Label values are few by design; beyond MAX_SERIES of one metric the rest counts as `other`.
"""

import asyncio
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import ClassVar, Final, Self

import msgspec

from app.core import clock

MAX_SERIES: Final = 300
"""Combinations of label values that one process keeps for one metric."""
MICRO: Final = 1_000_000
SUM: Final = "sum"
"""The part of a histogram that is not a bucket, in millionths."""
ABOVE: Final = "+Inf"

QUICK: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds for operations that should take milliseconds."""
SLOW: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds in seconds for calls over a network."""
LONG: Final = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""Upper bounds in seconds for generations."""
SHARES: Final = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)


class Metric:
    """One name with a series of numbers for each combination of label values; may be used from any thread."""

    def __init__(self, name: str, description: str, labels: Sequence[str] = (), bounds: Sequence[float] = ()) -> None:
        """A counter, or with `bounds` a histogram.

        Args:
            name: As Prometheus sees it, without `_total`.
            description: A sentence.
            labels: Names of the labels.
            bounds: Upper bounds of the buckets, ascending.
        """
        self.name = name
        self.description = description
        self.labels = tuple(labels)
        self.bounds = tuple(bounds)
        self.parts = (*(str(bound) for bound in bounds), ABOVE, SUM) if bounds else ("",)
        """The names of a series' numbers, in order."""
        self._lock = threading.Lock()
        self._series: dict[tuple[str, ...], list[int]] = {}

    def take(self) -> dict[str, int]:
        """The counts since the last call, by counter key; they are reset."""
        taken: dict[str, int] = {}
        with self._lock:
            for labels, numbers in self._series.items():
                for index, number in enumerate(numbers):
                    if number:
                        taken[counter_key(self.name, labels, self.parts[index])] = number
                        numbers[index] = 0
        return taken

    def _numbers(self, labels: tuple[str, ...]) -> list[int]:
        """The numbers of one series; the caller holds the lock."""
        if (existing := self._series.get(labels)) is not None:
            return existing
        if len(self._series) >= MAX_SERIES:
            labels = ("other",) * len(self.labels)
        return self._series.setdefault(labels, [0] * len(self.parts))


class Counter(Metric):
    """Counts; fractions are kept in millionths, with `unit` MICRO."""

    def __init__(self, name: str, description: str, labels: Sequence[str] = (), *, unit: int = 1) -> None:
        """A counter.

        Args:
            name: As Prometheus sees it, without `_total`.
            description: A sentence.
            labels: Names of the labels.
            unit: How many kept units make one: 1 or MICRO.
        """
        super().__init__(name, description, labels)
        self.unit = unit

    def add(self, *labels: str, number: float = 1) -> None:
        """Count `number` more."""
        with self._lock:
            self._numbers(labels)[0] += round(number * self.unit)


class Histogram(Metric):
    """A distribution of durations or shares."""

    def observe(self, value: float, *labels: str) -> None:
        """Count one value; a negative one, as from clocks that differ, counts as 0."""
        value = max(value, 0.0)
        with self._lock:
            numbers = self._numbers(labels)
            numbers[bisect_left(self.bounds, value)] += 1
            numbers[-1] += round(value * MICRO)


class Timed:
    """Measures the duration of a block, under `labels` and its outcome."""

    __slots__ = ("_histogram", "_labels", "_started", "outcome")
    running: ClassVar[int] = 0
    """Blocks that this process is in now."""
    ended_at: ClassVar[float] = 0.0
    """When the last one ended, by `clock.seconds`."""

    def __init__(self, histogram: Histogram, *labels: str) -> None:
        self._histogram = histogram
        self._labels = labels
        self.outcome = "ok"

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        Timed.running += 1
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        Timed.running -= 1
        Timed.ended_at = clock.seconds()
        if error is not None:
            self.outcome = self.outcome_of(error)
        self._histogram.observe(time.perf_counter() - self._started, *self._labels, self.outcome)

    def outcome_of(self, error: BaseException) -> str:
        """The `outcome` label of an error; few different values."""
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            return "cancelled"
        return "timeout" if isinstance(error, TimeoutError) else "failed"


def counter_key(metric: str, labels: Sequence[str], part: str) -> str:
    """The key under which one number is kept in the database."""
    return msgspec.json.encode([metric, *labels, part]).decode()


def parse_counter_key(key: str) -> tuple[str, tuple[str, ...], str] | None:
    """Metric, labels and part; None: it is the key of something else."""
    if not key.startswith("["):
        return None
    metric, *labels, part = msgspec.json.decode(key, type=list[str])
    return metric, tuple(labels), part


REQUESTS: Final = Histogram(
    "fleek_http_request_duration_seconds",
    "Time until a response begins; `wait` is `yes` where the client asked to wait for a change.",
    ("method", "route", "status", "wait"),
    QUICK,
)
PROVIDER_CALLS: Final = Histogram(
    "fleek_provider_call_duration_seconds",
    "Calls of provider adapters; `outcome` is `ok` or the code of an error.",
    ("provider", "operation", "outcome"),
    SLOW,
)
STORE_CALLS: Final = Histogram(
    "fleek_store_call_duration_seconds", "Calls of the object store.", ("operation", "outcome"), SLOW
)
ATTEMPTS: Final = Counter(
    "fleek_attempts",
    "Finished attempts by outcome; `code` is that of the error.",
    ("provider", "outcome", "code"),
)
MEDIA_SECONDS: Final = Histogram(
    "fleek_media_duration_seconds", "From the request to COMPLETED.", ("provider", "model"), LONG
)
COST: Final = Counter(
    "fleek_cost_dollars", "Cost of attempts as reported by providers.", ("provider", "model"), unit=MICRO
)
STORED_BYTES: Final = Counter("fleek_stored_bytes", "Bytes of outputs written to the store.", ("provider",))
WEBHOOK_ATTEMPTS: Final = Histogram(
    "fleek_webhook_attempt_duration_seconds",
    "Requests to webhook receivers; `outcome` is `ok`, the class of another status, or `unanswered`.",
    ("outcome",),
    SLOW,
)
BROKER_FAILURES: Final = Counter("fleek_broker_publish_failures", "Wake-up signals that the broker did not accept.")
CHANGE_PUBLISH_FAILURES: Final = Counter(
    "fleek_change_publish_failures", "Change messages between processes that Redis did not accept."
)
CHANGE_CHANNEL_DOWN: Final = Counter(
    "fleek_change_channel_down_seconds", "Time in which API processes received no change messages.", unit=MICRO
)
LOOP_LAG: Final = Histogram(
    "fleek_event_loop_lag_seconds", "How late the event loop wakes up, measured every second.", ("process",), QUICK
)
POOL_USE: Final = Histogram(
    "fleek_database_pool_use_ratio",
    "Share of a process's connections to PostgreSQL that are in use, measured every second.",
    ("process",),
    SHARES,
)
POOL_WAITS: Final = Counter("fleek_database_pool_waits", "Statements that waited for a connection.", ("process",))
LOGS_DROPPED: Final = Counter("fleek_log_events_dropped", "Log events of media items that the database did not get.")
WORKERS_STUCK: Final = Counter(
    "fleek_workers_stuck",
    "Workers that have ended themselves because they reported, but got nothing done; `what` is what stood still.",
    ("what",),
)
CLOCK_OFFSET: Final = Histogram(
    "fleek_clock_offset_seconds",
    "Difference between the clocks of a process and of the database, in either direction.",
    ("process",),
    (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0),
)
LOG_LINES_LOST: Final = Counter("fleek_log_lines_lost", "Log lines that could not be written: disk full, pipe closed.")

METRICS: Final[Sequence[Metric]] = (
    *(REQUESTS, PROVIDER_CALLS, STORE_CALLS, ATTEMPTS, MEDIA_SECONDS, COST, STORED_BYTES),
    *(
        WEBHOOK_ATTEMPTS,
        BROKER_FAILURES,
        CHANGE_PUBLISH_FAILURES,
        CHANGE_CHANNEL_DOWN,
        LOOP_LAG,
        POOL_USE,
        POOL_WAITS,
        LOGS_DROPPED,
        LOG_LINES_LOST,
        WORKERS_STUCK,
        CLOCK_OFFSET,
    ),
)


def take_all() -> Iterator[tuple[str, int]]:
    """This process's counts since the last call, by counter key."""
    for metric in METRICS:
        yield from metric.take().items()
