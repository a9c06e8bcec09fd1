"""Tracing with OpenTelemetry; loaded only by `tracing.py`, and only if it is configured."""

import traceback
from collections.abc import Callable, Generator, MutableMapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.core.config import Settings
from app.core.redaction import redacted
from app.core.telemetry.tracer import Attribute, Tracer
from app.core.this_machine import is_this_machine

_PROPAGATOR = TraceContextTextMapPropagator()
_FAILED = 500
EXPORT_SECONDS: Final = 3
"""Time-out for the collector; a stopping process waits no longer for it."""


def open_tracer(settings: Settings, exporter: SpanExporter | None = None) -> Tracer:
    """A tracer that sends to OTEL_EXPORTER_OTLP_ENDPOINT.

    OpenTelemetry's own environment variables apply as well: headers, service name, sampler.

    Args:
        settings: The settings of this process.
        exporter: Receives the spans; None: over HTTP to the endpoint.
    """
    named = Resource({SERVICE_NAME: "fleek", SERVICE_VERSION: version("fleek")}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(
        resource=named.merge(Resource({"deployment.environment.name": settings.environment})), shutdown_on_exit=False
    )
    endpoint = (settings.otel_exporter_otlp_endpoint or "").rstrip("/")
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter or OTLPSpanExporter(f"{endpoint}/v1/traces", timeout=EXPORT_SECONDS, session=_session(endpoint))
        )
    )
    return _Otel(provider)


def _session(endpoint: str) -> requests.Session | None:
    """Asks a collector on this machine directly; None: the exporter's own, which knows the environment's proxies."""
    if not is_this_machine(urlsplit(endpoint).hostname):
        return None
    session = requests.Session()
    session.trust_env = False
    return session


class _Otel:
    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("fleek")

    @contextmanager
    def span(self, name: str, link: str | None, attributes: dict[str, Attribute]) -> Generator[object]:
        links = [] if link is None else _links(link)
        with (
            self._tracer.start_as_current_span(
                name, attributes=_named(attributes), links=links, record_exception=False, set_status_on_exception=False
            ) as span,
            _recorded(span),
        ):
            yield span

    @contextmanager
    def request(self, scope: MutableMapping[str, Any]) -> Generator[Callable[[str, int], None]]:
        method = str(scope["method"])
        parent = _PROPAGATOR.extract(scope["headers"], getter=_Headers())
        requested = {"http.request.method": method, "url.path": redacted(str(scope["path"]))}
        with (
            self._tracer.start_as_current_span(
                method,
                parent,
                SpanKind.SERVER,
                attributes=requested,
                record_exception=False,
                set_status_on_exception=False,
            ) as span,
            _recorded(span),
        ):

            def finish(route: str, status: int) -> None:
                span.update_name(f"{method} {route}")
                span.set_attributes({"http.route": route, "http.response.status_code": status})
                if status >= _FAILED:
                    span.set_status(Status(StatusCode.ERROR))

            yield finish

    def set_attributes(self, attributes: dict[str, Attribute]) -> None:
        get_current_span().set_attributes(_named(attributes))

    def traceparent(self) -> str | None:
        carrier = dict[str, str]()
        _PROPAGATOR.inject(carrier)
        return carrier.get("traceparent")

    def close(self) -> None:
        self._provider.shutdown()


class _Headers(Getter[list[tuple[bytes, bytes]]]):
    """Reads the headers of an ASGI scope."""

    def get(self, carrier: list[tuple[bytes, bytes]], key: str) -> list[str] | None:
        found = [value.decode("latin-1") for name, value in carrier if name == key.encode()]
        return found or None

    def keys(self, carrier: list[tuple[bytes, bytes]]) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier]


@contextmanager
def _recorded(span: Span) -> Generator[None]:
    """Record an error as the SDK does, without secrets."""
    try:
        yield
    except Exception as error:
        message, trace = redacted(str(error)), redacted("".join(traceback.format_exception(error)))
        described = {"exception.type": type(error).__name__, "exception.message": message}
        span.add_event("exception", {**described, "exception.stacktrace": trace})
        span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {message}"))
        raise


def _named(attributes: dict[str, Attribute]) -> dict[str, Attribute]:
    return {f"fleek.{name}": redacted(value) for name, value in attributes.items()}


def _links(traceparent: str) -> list[Link]:
    context = get_current_span(_PROPAGATOR.extract({"traceparent": traceparent})).get_span_context()
    return [Link(context)] if context.is_valid else []
