"""The bell: "there is work". It may be lost or doubled; nothing depends on it but latency."""

from typing import Final, Protocol

WEBHOOKS: Final = "webhooks"
"""The queue of deliveries to receivers of webhooks."""


class Bell(Protocol):
    """Wakes workers; `tasks` rings through Celery, tests ring a list."""

    def ring(self, queue: str) -> None:
        """Say that jobs of `queue` are due; returns at once and never fails."""
        ...
