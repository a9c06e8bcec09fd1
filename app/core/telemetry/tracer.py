"""The interface of a tracer; implemented in `otel.py`, used through `tracing.py`."""

from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

Attribute: TypeAlias = str | int | float | bool


class Tracer(Protocol):
    """Creates spans."""

    def span(self, name: str, link: str | None, attributes: dict[str, Attribute]) -> AbstractContextManager[object]:
        """See `tracing.span`."""
        ...

    def request(self, scope: MutableMapping[str, Any]) -> AbstractContextManager[Callable[[str, int], None]]:
        """See `tracing.request`."""
        ...

    def set_attributes(self, attributes: dict[str, Attribute]) -> None:
        """Add attributes to the current span."""
        ...

    def traceparent(self) -> str | None:
        """The current span as a W3C `traceparent`, to be stored in a row."""
        ...

    def close(self) -> None:
        """Send pending spans, for a few seconds at most."""
        ...
