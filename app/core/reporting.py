"""Errors reported to Sentry, where the operator wants it; the SDK is an extra, loaded only then."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from app.core.config import Settings
from app.core.errors import SettingsError


def report_errors(settings: Settings) -> None:
    """Begin to report what is logged as an error, if SENTRY_DSN is set.

    Raises:
        SettingsError: It is set, but the SDK is not installed.
    """
    if settings.sentry_dsn is None:
        return
    if find_spec("sentry_sdk") is None:
        raise SettingsError("SENTRY_DSN is set, but sentry-sdk is missing: install fleek[sentry], or unset it")
    sentry: Any = import_module("sentry_sdk")
    sentry.init(settings.sentry_dsn.get_secret_value(), environment=settings.environment)
