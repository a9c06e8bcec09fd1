"""Reports errors to Sentry if SENTRY_DSN is set; the SDK is an extra, loaded only then.

Events logged as errors are reported with their fields; values of variables and request bodies are not.
"""

import sys
import time
from importlib import import_module
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urlsplit

from app.core.config import Settings
from app.core.errors import SettingsError
from app.core.redaction import redacted
from app.core.telemetry.logging import Sinks
from app.core.this_machine import is_this_machine

WINDOW_SECONDS: Final = 60.0
MAX_IN_WINDOW: Final = 10
"""Reports of one event in a window, so that an outage is not reported for each request."""


def report_errors(settings: Settings) -> None:
    """Report errors from now on, if SENTRY_DSN is set.

    Raises:
        SettingsError: It is set, but invalid, or the SDK is not installed.
    """
    if settings.sentry_dsn is None:
        return
    try:
        sentry: Any = import_module("sentry_sdk")
    except ModuleNotFoundError as error:
        raise SettingsError(
            "SENTRY_DSN is set, but sentry-sdk is missing: install fleek[sentry], or unset it"
        ) from error
    # Its own rules know no loopback.
    here = is_this_machine(urlsplit(settings.sentry_dsn.get_secret_value()).hostname)
    direct = {"http_proxy": "", "https_proxy": ""} if here else {}
    try:
        sentry.init(
            settings.sentry_dsn.get_secret_value(),
            environment=settings.environment,
            release=f"fleek@{version('fleek')}",
            # Our log events are more specific than framework integrations, and cost nothing per request.
            auto_enabling_integrations=False,
            include_local_variables=False,
            max_request_body_size="never",
            before_send=_without_secrets,
            before_breadcrumb=_without_secrets,
            **direct,
        )
    except sentry.utils.BadDsn as error:
        raise SettingsError(f"SENTRY_DSN: {error}; it looks like https://key@host/project") from None
    Sinks.errors = SentryReporter(sentry)


def _without_secrets(event: Any, _hint: Any) -> Any:
    return redacted(event)


class SentryReporter:
    """Passes events to Sentry; may be called from any thread."""

    def __init__(self, sentry: Any) -> None:
        self._sentry = sentry
        self._seen: dict[str, tuple[float, int]] = {}

    def __call__(self, event: dict[str, Any]) -> None:
        """Report one event."""
        if not self._is_within_limit(event["event"]):
            return
        error = event.pop("exc_info", None)
        error = sys.exc_info()[1] if error is True else error
        with self._sentry.new_scope() as scope:
            scope.set_tag("event", event["event"])
            if "media_id" in event:
                scope.set_tag("media_id", event["media_id"])
            scope.set_context("fleek", event)
            if isinstance(error, BaseException):
                self._sentry.capture_exception(error)
            else:
                self._sentry.capture_message(event["event"], level=event["level"])

    def _is_within_limit(self, name: str) -> bool:
        now = time.monotonic()
        started, number = self._seen.get(name, (now, 0))
        if now - started > WINDOW_SECONDS:
            started, number = now, 0
        self._seen[name] = started, number + 1
        return number < MAX_IN_WINDOW
