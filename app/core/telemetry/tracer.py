"""What a tracer can do; implemented in `otel.py`, used through `tracing.py`."""

from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

Attribute: TypeAlias = str | int | float | bool


class Tracer(Protocol):
    """Makes spans."""

    def span(self, name: str, link: str | None, attributes: dict[str, Attribute]) -> AbstractContextManager[object]:
        """A span around a block, child of the one around it; see `span`."""
        ...

    def request(self, scope: MutableMapping[str, Any]) -> AbstractContextManager[Callable[[str, int], None]]:
        """The span of an HTTP request; what it gives is told the route and the status when they are known."""
        ...

    def note(self, attributes: dict[str, Attribute]) -> None:
        """Add attributes to the current span."""
        ...

    def carried(self) -> str | None:
        """The current span as a W3C `traceparent`, to be kept in a row."""
        ...

    def close(self) -> None:
        """Send what waits, for a few seconds at most."""
        ...
