"""Traces, where the operator wants them: from a request over the queue to worker, provider and store.

Off by default, and then nothing is loaded and nothing is done. The one module that knows OpenTelemetry is
`otel.py`. A trace crosses the queue as a text in the media's row; the worker's trace links to it.
"""

from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any, Final

from app.core.config import Settings
from app.core.errors import SettingsError
from app.core.telemetry.tracer import Attribute, Tracer


class _On:
    """The tracer of this process."""

    tracer: Tracer | None = None


_NOTHING: Final = nullcontext()


def begin(settings: Settings) -> None:
    """Trace from now on, if OTEL_EXPORTER_OTLP_ENDPOINT is set.

    Raises:
        SettingsError: It is set, but the SDK is not installed.
    """
    if settings.otel_exporter_otlp_endpoint is None or _On.tracer is not None:
        return
    try:
        otel: Any = import_module("app.core.telemetry.otel")
    except ModuleNotFoundError as error:
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is missing: install fleek[otel], or unset it"
        ) from error
    _On.tracer = otel.open_tracer(settings)


def end() -> None:
    """Send what waits, and trace no more."""
    tracer, _On.tracer = _On.tracer, None
    if tracer is not None:
        tracer.close()


def span(name: str, *, link: str | None = None, **attributes: Attribute) -> AbstractContextManager[object]:
    """A span around a block, child of the one around it.

    Args:
        name: What is done; few different ones.
        link: A `carried` text: then it begins a trace of its own that points there.
        attributes: Of the span.
    """
    return _NOTHING if _On.tracer is None else _On.tracer.span(name, link, attributes)


def active() -> bool:
    """Whether anything is traced."""
    return _On.tracer is not None


def request(scope: MutableMapping[str, Any]) -> AbstractContextManager[Callable[[str, int], None]]:
    """The span of an HTTP request; what it gives is told the route and the status. Only while tracing is active."""
    if _On.tracer is None:
        raise RuntimeError("nothing is traced")
    return _On.tracer.request(scope)


def note(**attributes: Attribute) -> None:
    """Add attributes to the current span."""
    if _On.tracer is not None:
        _On.tracer.note(attributes)


def carried() -> str | None:
    """The current span as a W3C `traceparent`; None: nothing is traced."""
    return None if _On.tracer is None else _On.tracer.carried()
