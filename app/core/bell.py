"""The wake-up signal "there is work". It may be lost or duplicated; only latency depends on it."""

from typing import Final, Protocol

WEBHOOKS: Final = "webhooks"
"""The queue of deliveries to receivers of webhooks."""


class Bell(Protocol):
    """Wakes workers; `tasks` sends through Celery, tests through a list."""

    def ring(self, queue: str) -> None:
        """Signal that jobs of `queue` are due; returns at once and never fails."""
        ...
