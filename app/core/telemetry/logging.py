"""Structured logging: constant event names with fields, one JSON object a line outside a terminal.

`media_id` and `request_id` are bound once as context. Events with a `media_id` are also passed to the recorder, which
writes them to the database. Logging never raises: what cannot be written, or not even be made a line, costs that line.
Configured secrets are masked wherever they appear (`app/core/redaction.py`).
"""

import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final

import msgspec
import structlog

from app.core import redaction
from app.core.database.text import storable
from app.core.telemetry.log_stream import LogStream

SECRET_WORDS: Final = ("password", "secret", "token", "authorization", "api_key", "dsn", "signature")
"""The value of a field whose name contains one of these is masked."""
_QUIET: Final = ("uvicorn.access", "amqp", "kombu", "celery.redirected", "aiohttp.access")
_WITH_HANDLERS: Final = ("uvicorn", "uvicorn.access")
"""Loggers that come with handlers of their own, which print tracebacks as they are."""

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
    stream: Any = LogStream(sys.stderr)
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
            _redact_line,
        ],
        wrapper_class=_never_raising(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    # Else a handler that fails prints its own traceback, to the same broken stream.
    logging.raiseExceptions = False
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer, _redact_line],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for own in (handler for name in _WITH_HANDLERS for handler in logging.getLogger(name).handlers):
        if type(own) is logging.StreamHandler and not isinstance(own.formatter, _Redacting):
            own.stream = stream  # setStream would flush the old one, and fail where its disk is full
            own.setFormatter(_Redacting(own.formatter or logging.Formatter()))
    for noisy in _QUIET:
        logging.getLogger(noisy).setLevel("WARNING")


class _Redacting(logging.Formatter):
    """Formats as another one does, without secrets."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        return str(redaction.redacted(self._inner.format(record)))


def _never_raising(level: str) -> Any:
    """A logger class for this level and above, none of whose methods raises."""
    base: Any = structlog.make_filtering_bound_logger(level)

    class NeverRaising(base):  # type: ignore[misc]
        """Writes events; one that cannot be made a line is written by its name."""

        def _proxy_to_logger(self, method_name: str, event: str | None = None, **fields: Any) -> Any:
            try:
                return base._proxy_to_logger(self, method_name, event, **fields)  # noqa: SLF001 - its own base
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not reach the work
                with suppress(Exception):
                    line = {"event": str(event), "level": method_name, "log_error": type(error).__name__}
                    self._logger.msg(_redact_line(None, "", _dumps(line)))

    return NeverRaising


def _dumps(event: Mapping[Any, Any], **_options: Any) -> str:
    try:
        return msgspec.json.encode(event, enc_hook=_text).decode()
    except Exception:  # noqa: BLE001 - a value of any kind may be logged
        # Such as half a surrogate pair, as left by a text truncated within an emoji.
        return msgspec.json.encode({_text(name): _plain(value) for name, value in event.items()}).decode()


def _plain(value: object) -> object:
    """The value, or its text where it cannot be encoded."""
    with suppress(Exception):
        clean = storable(value)
        msgspec.json.encode(clean)
        return clean
    return _text(value)


def _text(value: object) -> str:
    try:
        return str(storable(value if isinstance(value, str) else repr(value)))
    except Exception:  # noqa: BLE001 - its __repr__ may do anything
        return f"<{type(value).__name__}>"


def _hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in event:
        if any(word in name.lower() for word in SECRET_WORDS):
            event[name] = "***"
    return event


def _redact_line(_logger: Any, _method: str, line: Any) -> str:
    return str(redaction.redacted(line))


def _pass_on(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if Sinks.media_events is not None and "media_id" in event:
        with suppress(Exception):
            Sinks.media_events(redaction.redacted(dict(event)))
    if Sinks.errors is not None and event.get("level") in {"error", "critical"}:
        with suppress(Exception):
            Sinks.errors(redaction.redacted(dict(event)))
    return event
