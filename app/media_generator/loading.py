"""Loads the providers: one for each account that the operator has configured.

Kinds of providers are entry points. Those in the group `fleek.providers` need no settings and are opened under their
own name. Those in `fleek.services` are loaded only for accounts: one with the kind's own name if one of its variables
is set (REPLICATE_API_TOKEN, COG_BASE_URL), and those that PROVIDER_ACCOUNTS names.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Final

import structlog

from app.core.errors import SettingsError
from app.core.http_client.protocol import Http, NoCalls
from app.core.redaction import redacted
from app.media_generator.accounts import Account, ProviderSetup, RawAnswers
from app.media_generator.catalogue import Catalogue
from app.media_generator.media_generator_model import MediaGeneratorModel
from app.media_generator.model_card import ModelCard
from app.media_generator.raw_answers import RecordingHttp
from app.media_generator.registry import Registry

PROVIDERS: Final = "fleek.providers"
SERVICES: Final = "fleek.services"
ACCOUNT_VARIABLES: Final = ("API_TOKEN", "API_KEY", "KEY", "BASE_URL")
"""Variables that define an account; one of them is enough."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """The provider accounts and the catalogue that the operator has configured."""

    variables: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """All environment variables, including those from .env files."""
    accounts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Additional accounts: the kind of each, by name."""
    catalogue: Catalogue = field(default_factory=Catalogue)

    def account(self, name: str) -> Account:
        """The account of that name with its settings."""
        prefix = Account(name).variable("")
        found = {
            key.removeprefix(prefix).lower(): value for key, value in self.variables.items() if key.startswith(prefix)
        }
        return Account(name, found)

    def has(self, name: str) -> bool:
        """Whether the variables define an account of this name."""
        account = Account(name)
        return any(self.variables.get(account.variable(setting)) for setting in ACCOUNT_VARIABLES)

    def models(self, kind: str, account: str) -> Sequence[ModelCard]:
        """The models that the catalogue lists for an account."""
        return self.catalogue.models(kind, account)


def load_registry(
    config: ProviderConfig | None = None, http: Http | None = None, vault: RawAnswers | None = None
) -> Registry:
    """Create every provider; one that cannot be created is reported and left out, not fatal.

    Args:
        config: The configured accounts; None: only providers that need no settings.
        http: The client for outgoing calls; None: this process makes none.
        vault: Store of raw answers; None: this process executes no jobs.
    """
    chosen = config or ProviderConfig()
    installed = entry_points()  # once: each call reads a file of every installed package
    always = {entry.name: entry for entry in installed.select(group=PROVIDERS)}
    services = {entry.name: entry for entry in installed.select(group=SERVICES)}
    providers: list[MediaGeneratorModel] = []
    load_errors: dict[str, str] = {}
    calls = NoCalls() if http is None else RecordingHttp(http)
    for name, entry in _configured_accounts(chosen, always, services, load_errors):
        try:
            kind: type[MediaGeneratorModel] = entry.load()
            setup = ProviderSetup(chosen.account(name), calls, chosen.models(entry.name, name), vault)
            made = kind.open_account(setup)
            if not isinstance(made, MediaGeneratorModel):  # pyright: ignore[reportUnnecessaryIsInstance] - a plug-in may be anything
                raise TypeError(f"{entry.value} is not a MediaGeneratorModel")  # noqa: TRY301 - handled like any other
            Registry([made], catalogue=chosen.catalogue)
        except Exception as error:  # noqa: BLE001 - a plug-in may fail in any way
            why = str(error) if isinstance(error, SettingsError) else f"{type(error).__name__}: {error}"
            load_errors[name] = redacted(why)
            log.warning("provider_load_failed", provider=name, error=load_errors[name])
        else:
            providers.append(made)
    registry = Registry(providers, load_errors, chosen.catalogue)
    awake = {*registry.providers, *load_errors}
    registry.unconfigured = {
        name: partial(_required_variables, entry) for name, entry in services.items() if name not in awake
    }
    for name, why in registry.load_errors.items():
        if name not in load_errors:
            log.warning("route_invalid", route=name, error=why)
    return registry


def _required_variables(entry: EntryPoint) -> str:
    """The variables that an account of this kind requires, for messages: found by opening one without settings.

    Called only when a message needs it, because it loads the adapter.
    """
    account = Account(entry.name)
    try:
        entry.load().open_account(ProviderSetup(account))
    except SettingsError as error:
        missing = dict.fromkeys(re.findall(rf"\b{account.variable('')}[A-Z0-9_]+", error.detail))
        if missing:
            return " and ".join(missing)
    except Exception as error:  # noqa: BLE001 - a plug-in may fail in any way
        log.warning("provider_load_failed", provider=entry.name, error=f"{type(error).__name__}: {error}")
    *first, last = (account.variable(setting) for setting in ACCOUNT_VARIABLES)
    return f"{', '.join(first)} or {last}"


def _configured_accounts(
    config: ProviderConfig,
    always: Mapping[str, EntryPoint],
    services: Mapping[str, EntryPoint],
    load_errors: dict[str, str],
) -> Iterable[tuple[str, EntryPoint]]:
    """The accounts to open, by name, and the kind of each."""
    accounts = {**always, **{name: entry for name, entry in services.items() if config.has(name)}}
    for name, kind in config.accounts.items():
        entry = services.get(kind) or always.get(kind)
        if entry is None:
            load_errors[name] = (
                f"there is no kind of provider {kind!r}; there are: {', '.join(sorted({*services, *always}))}"
            )
            log.warning("provider_load_failed", provider=name, error=load_errors[name])
        else:
            accounts[name] = entry
    return accounts.items()
