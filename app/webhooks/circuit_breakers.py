"""Circuit breakers: how many deliveries a receiver gets at the same time from this process, given its recent answers.

After FAILURE_THRESHOLD failures in a row the circuit opens and nothing is sent for a while; then a single delivery is
tried, and its success closes the circuit. So a dead receiver with a long backlog costs one request now and then, and
takes no slots from others.
"""

import math
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from app.core import clock

FAILURE_THRESHOLD: Final = 3
"""Failures in a row that open a circuit: a receiver that refuses only some events is not dead."""
MIN_OPEN_SECONDS: Final = 1.0
MAX_OPEN_SECONDS: Final = 60.0
"""How long a circuit stays open doubles with each further failure."""
MAX_HEALTHY: Final = 20_000
"""Healthy receivers that one process remembers."""
FORGET_AFTER_SECONDS: Final = 3 * 86_400.0
"""A failing receiver is forgotten when nothing has been sent to it for so long."""


@dataclass(slots=True)
class _Circuit:
    since: float
    """When it began to fail, by `clock`."""
    failures: int = 0
    open_until: float = 0.0


class CircuitBreakers:
    """Those of one process, one for each receiver."""

    def __init__(self, per_receiver: int) -> None:
        """`per_receiver` is how many deliveries a healthy receiver gets at the same time."""
        self._per_receiver = per_receiver
        self._failing = dict[str, _Circuit]()
        self._healthy = dict[str, None]()
        """Receivers that have accepted a delivery, oldest first."""
        self._in_flight = Counter[str]()

    def begin(self, receiver: str) -> None:
        """Count a delivery that is being sent."""
        self._in_flight[receiver] += 1

    def end(self, receiver: str) -> bool:
        """Count it off. True: the receiver was at its limit."""
        full = self._in_flight[receiver] >= self._limit(receiver)
        self._in_flight[receiver] -= 1
        if self._in_flight[receiver] <= 0:
            del self._in_flight[receiver]
        return full

    def failed(self, receiver: str, retry_after: timedelta | None) -> None:
        """An attempt has failed; `retry_after` is how long the receiver has asked us to wait."""
        now = clock.seconds()
        circuit = self._failing.setdefault(receiver, _Circuit(since=now))
        circuit.failures += 1
        pause = 0.0 if retry_after is None else retry_after.total_seconds()
        further = circuit.failures - FAILURE_THRESHOLD
        if further >= 0:
            pause = max(pause, min(MIN_OPEN_SECONDS * 2 ** min(further, 10), MAX_OPEN_SECONDS))
        circuit.open_until = max(circuit.open_until, now + pause)

    def succeeded(self, receiver: str) -> float:
        """An attempt has succeeded; for how many seconds the receiver had failed, infinity if it is new here."""
        circuit = self._failing.pop(receiver, None)
        if receiver not in self._healthy:
            # There may have been an outage that this process has not seen, such as one before it started.
            self._healthy[receiver] = None
            if len(self._healthy) > MAX_HEALTHY:
                del self._healthy[next(iter(self._healthy))]
            return math.inf
        return 0.0 if circuit is None else clock.seconds() - circuit.since

    def has_capacity(self, receiver: str) -> bool:
        """Whether it may get one more delivery now."""
        return self._in_flight[receiver] < self._limit(receiver)

    def capacities(self, *, scarce: bool) -> dict[str, int]:
        """How many more each receiver may get, of those that are failing or busy; `scarce`: few slots are left."""
        known = {*self._in_flight, *self._failing}
        return {of: max(self._limit(of, scarce=scarce) - self._in_flight[of], 0) for of in known}

    def forget(self) -> None:
        """Drop circuits that have not been used for FORGET_AFTER_SECONDS."""
        oldest = clock.seconds() - FORGET_AFTER_SECONDS
        self._failing = {of: circuit for of, circuit in self._failing.items() if circuit.open_until > oldest}

    def _limit(self, receiver: str, *, scarce: bool = False) -> int:
        circuit = self._failing.get(receiver)
        if circuit is not None and circuit.open_until > clock.seconds():
            return 0
        half_open = circuit is not None and circuit.failures >= FAILURE_THRESHOLD
        return 1 if scarce or half_open else self._per_receiver
