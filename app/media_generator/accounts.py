"""What a provider is created from: the account that the operator configured, and the resources of this process.

An account has a name, which is the first part of its models' names, and settings: the environment variables that
begin with that name in upper case. The account `replicate` reads REPLICATE_API_TOKEN; the account `replicate-eu` of the
kind `replicate` reads REPLICATE_EU_API_TOKEN.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from app.core.errors import SettingsError
from app.core.http_client.protocol import Http, NoCalls
from app.core.redaction import learn
from app.media_generator.model_card import ModelCard

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class ProviderSettings(BaseModel):
    """Base class of an adapter's settings: each field is a variable, its docstring is its line in the documentation."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


SECRET_WORDS: Final = ("token", "key", "secret", "password", "credential", "auth", "cookie")
"""A setting whose name contains one of these is masked wherever its value comes back."""

ADDRESS: Final = "^https?://"
"""Start of the pattern of a setting that holds a URL."""

SettingsType = TypeVar("SettingsType", bound=ProviderSettings)


class RawAnswers(Protocol):
    """Stores raw responses of providers, so that they are durable before they are parsed."""

    async def keep(self, attempt_id: UUID, chunks: AsyncIterator[bytes], part: str = "") -> str:
        """Store an answer, or a part that was sent separately; return its name.

        The name of a part is the name of its answer, a dot, and `part`.

        Raises:
            OSError: It was not stored. Errors raised by `chunks` pass through unchanged.
        """
        ...

    async def find(self, attempt_id: UUID) -> str | None:
        """The name of the complete answer stored for an attempt; None: there is none.

        Raises:
            OSError: The store cannot be read at the moment.
        """
        ...

    def open(self, name: str) -> AsyncIterator[bytes]:
        """Read it, chunk by chunk.

        Raises:
            FileNotFoundError: Nothing is stored under that name.
            OSError: The store cannot be read at the moment.
        """
        ...

    async def drop(self, name: str) -> None:
        """Delete it; deleting it twice is not an error.

        Raises:
            OSError: It was not deleted.
        """
        ...


@dataclass(frozen=True, slots=True)
class Account:
    """One account at a provider."""

    name: str
    """First part of its models' names, `[a-z0-9-]+`."""
    variables: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Its settings by name, in lower case and without the account's name, such as `api_token`."""

    def __post_init__(self) -> None:
        """Its secrets are masked from now on, also those that the adapter reads as plain text."""
        learn(value for name, value in self.variables.items() if any(word in name for word in SECRET_WORDS))

    def variable(self, setting: str) -> str:
        """The environment variable of a setting."""
        return f"{self.name}_{setting}".upper().replace("-", "_")

    def read(self, kind: type[SettingsType]) -> SettingsType:
        """Its settings.

        Raises:
            SettingsError: One is missing or invalid; the message names the variable.
        """
        try:
            settings = kind.model_validate(dict(self.variables))
        except ValidationError as error:
            faults = [f"{self.variable(str(one['loc'][0]))}: {_explain(one)}" for one in error.errors()]
            raise SettingsError("; ".join(faults)) from None
        learn(value.get_secret_value() for _, value in settings if isinstance(value, SecretStr))
        return settings


def _explain(fault: "ErrorDetails") -> str:
    """What is wrong with a setting, as advice on what to change."""
    limits = fault.get("ctx", {})
    match fault["type"]:
        case "too_short" | "string_too_short":
            return f"must have {limits['min_length']} characters or more"
        case "string_pattern_mismatch" if limits["pattern"].startswith(ADDRESS):
            return "must begin with http:// or https:// and name a host"
        case _:
            return fault["msg"]


@dataclass(frozen=True, slots=True)
class ProviderSetup:
    """Everything a provider is created from; plug-ins import it as `Setup`."""

    account: Account
    http: Http = field(default_factory=NoCalls)
    """The shared client for outgoing calls; in the API process it refuses to make any."""
    models: Sequence[ModelCard] = ()
    """The models that the catalogue lists for this account."""
    vault: RawAnswers | None = None
    """Store of raw answers; None in processes that execute no jobs."""
