"""Structured logging: constant event names with fields, one JSON object a line outside a terminal.

`media_id` and `request_id` are bound once as context. Events with a `media_id` are also passed to the recorder, which
writes them to the database.
"""

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import msgspec
import structlog

from app.core.database.text import storable

SECRET_WORDS: Final = ("password", "secret", "token", "authorization", "api_key", "dsn", "signature")
"""The value of a field whose name contains one of these is masked."""

Sink = Callable[[dict[str, Any]], None]


class Sinks:
    """Further receivers of events, set by the process when it has them."""

    media_events: Sink | None = None
    """Gets events with a `media_id`."""
    errors: Sink | None = None
    """Gets errors; see `sentry.py`."""


def set_up_logging(*, level: str, json: bool | None = None) -> None:
    """Configure structlog and the standard library's logging to write the same format.

    Args:
        level: The least severe level.
        json: One JSON object a line; None: unless standard error is a terminal.
    """
    as_json = not sys.stderr.isatty() if json is None else json
    renderer = structlog.processors.JSONRenderer(_dumps) if as_json else structlog.dev.ConsoleRenderer()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide_secrets,
    ]
    structlog.configure(
        processors=[
            *shared,
            _pass_on,
            *([structlog.processors.format_exc_info] if as_json else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("uvicorn.access", "amqp", "kombu", "celery.redirected", "aiohttp.access"):
        logging.getLogger(noisy).setLevel("WARNING")


def _dumps(event: object, **_options: Any) -> str:
    try:
        return msgspec.json.encode(event, enc_hook=repr).decode()
    except UnicodeEncodeError:
        # Half a surrogate pair, as left by a text truncated within an emoji.
        return msgspec.json.encode(storable(event), enc_hook=repr).decode()


def _hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in event:
        if any(word in name.lower() for word in SECRET_WORDS):
            event[name] = "***"
    return event


def _pass_on(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if Sinks.media_events is not None and "media_id" in event:
        Sinks.media_events(dict(event))
    if Sinks.errors is not None and event.get("level") in {"error", "critical"}:
        Sinks.errors(dict(event))
    return event
