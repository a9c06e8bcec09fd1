"""How events are logged: constant names with fields, one JSON object a line outside a terminal.

`media_id` and `request_id` are bound once and ride along. Whatever carries a `media_id` is also handed to
the recorder, which puts it into the database.
"""

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import msgspec
import structlog

from app.core.database.text import storable

SECRET_WORDS: Final = ("password", "secret", "token", "authorization", "api_key", "dsn", "signature")
"""A field whose name holds one of these is never written out."""

Record = Callable[[dict[str, Any]], None]


class Tap:
    """Where events are also sent to; set by the process once it has a recorder."""

    record: Record | None = None
    """For what carries a `media_id`."""
    alarm: Record | None = None
    """For errors; see `reporting.py`."""


def set_up_logging(*, level: str, json: bool | None = None) -> None:
    """Configure structlog and the standard library's logging to write alike.

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
            _tap,
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
        # Half a surrogate pair, as it comes when somebody cuts a text inside an emoji.
        return msgspec.json.encode(storable(event), enc_hook=repr).decode()


def _hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in event:
        if any(word in name.lower() for word in SECRET_WORDS):
            event[name] = "***"
    return event


def _tap(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if Tap.record is not None and "media_id" in event:
        Tap.record(dict(event))
    if Tap.alarm is not None and event.get("level") in {"error", "critical"}:
        Tap.alarm(dict(event))
    return event
