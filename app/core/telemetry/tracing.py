"""Traces of requests and jobs: from the API through the queue to worker, provider and store.

Off by default; then nothing is loaded or recorded. Only `otel.py` imports OpenTelemetry. A trace crosses the queue as
a `traceparent` in the media item's row; the worker's trace links to it.
"""

from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any, Final

from app.core.config import Settings
from app.core.errors import SettingsError
from app.core.telemetry.tracer import Attribute, Tracer


class _State:
    """The tracer of this process; None: tracing is off."""

    tracer: Tracer | None = None


_NO_SPAN: Final = nullcontext()


def start(settings: Settings) -> None:
    """Trace from now on, if OTEL_EXPORTER_OTLP_ENDPOINT is set.

    Raises:
        SettingsError: It is set, but the SDK is not installed.
    """
    if settings.otel_exporter_otlp_endpoint is None or _State.tracer is not None:
        return
    try:
        otel: Any = import_module("app.core.telemetry.otel")
    except ModuleNotFoundError as error:
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is missing: install fleek[otel], or unset it"
        ) from error
    _State.tracer = otel.open_tracer(settings)


def stop() -> None:
    """Send pending spans, and stop tracing."""
    tracer, _State.tracer = _State.tracer, None
    if tracer is not None:
        tracer.close()


def span(name: str, *, link: str | None = None, **attributes: Attribute) -> AbstractContextManager[object]:
    """A span around a block, child of the one around it.

    Args:
        name: The operation; few different names.
        link: A `traceparent`: then the span starts a new trace that links to it.
        attributes: Attributes of the span.
    """
    return _NO_SPAN if _State.tracer is None else _State.tracer.span(name, link, attributes)


def active() -> bool:
    """Whether tracing is on."""
    return _State.tracer is not None


def request(scope: MutableMapping[str, Any]) -> AbstractContextManager[Callable[[str, int], None]]:
    """The span of an HTTP request; call its value with route and status at the end. Only while tracing is on."""
    if _State.tracer is None:
        raise RuntimeError("tracing is off")
    return _State.tracer.request(scope)


def set_attributes(**attributes: Attribute) -> None:
    """Add attributes to the current span."""
    if _State.tracer is not None:
        _State.tracer.set_attributes(attributes)


def traceparent() -> str | None:
    """The current span as a W3C `traceparent`; None: tracing is off."""
    return None if _State.tracer is None else _State.tracer.traceparent()
