"""The effective settings and their sources, without secrets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from dotenv import dotenv_values
from pydantic import SecretStr

from app.cli.console import without_passwords
from app.cli.environment import real_variables
from app.core.config import ENV_FILES, Settings

ADDRESSES: Final = frozenset({"database_url", "redis_url", "broker_url"})
"""Secrets in which only the password is hidden."""
HIDDEN: Final = "***"
UNUSED: Final = "not used: DATABASE_URL is set"

Value: TypeAlias = str | float | list[str] | None


@dataclass(frozen=True, slots=True)
class SettingLine:
    """One setting."""

    name: str
    """The environment variable."""
    value: Value
    """Without secrets; None: not set."""
    source: str
    """A file, `environment` or `default`; or a note that it has no effect."""


def report(settings: Settings, running: Mapping[str, str], running_source: str) -> list[SettingLine]:
    """One line for each setting.

    Args:
        settings: The effective settings.
        running: The variables that were taken from a running `fleek up`.
        running_source: The name of that source.
    """
    sources = [(running_source, set(running)), ("environment", set(real_variables()))]
    sources += [(file, _named_in(file)) for file in reversed(ENV_FILES)]
    return [
        SettingLine(
            name=name.upper(),
            value=_shown(name, getattr(settings, name)),
            source=UNUSED
            if settings.database_url is not None and name.startswith("postgres_")
            else next((source for source, names in sources if name.upper() in names), "default"),
        )
        for name in type(settings).model_fields
    ]


def _named_in(file: str) -> set[str]:
    return {name.upper() for name, value in dotenv_values(file).items() if value}


def _shown(name: str, value: SecretStr | Value) -> Value:
    if isinstance(value, SecretStr):
        return without_passwords(value.get_secret_value()) if name in ADDRESSES else HIDDEN
    return without_passwords(value) if isinstance(value, str) else value
