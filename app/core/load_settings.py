"""Reads the settings of a process, and refuses those that must not be used in production."""

import sys

from pydantic import ValidationError

from app.core import production_checks
from app.core.config import Settings
from app.core.errors import SettingsError
from app.core.redaction import learn


def load_settings() -> Settings:
    """Read the settings of this process.

    Raises:
        SettingsError: A setting is invalid, or unfit for ENVIRONMENT=production; the message names each one and what
            it accepts.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        faults = [f"{'.'.join(str(part) for part in fault['loc']).upper()}: {fault['msg']}" for fault in error.errors()]
        raise SettingsError("; ".join(faults)) from None
    learn(settings.secrets)
    if faults := production_checks.problems(settings):
        raise SettingsError(f"not fit for ENVIRONMENT=production: {'; '.join(faults)}")
    return settings


def settings_or_exit() -> Settings:
    """Read the settings of a program; invalid ones end it with one line, without a traceback."""
    try:
        return load_settings()
    except SettingsError as error:
        sys.exit(f"fleek: invalid setting: {error.detail}")
