"""What a provider is made from: the account that the operator has set up, and what it may use of this process.

An account has a name of its own, the first part of its models' names, and settings: the variables that begin with
that name, in capitals. The account `replicate` reads REPLICATE_API_TOKEN, the account `replicate-eu` of the kind
`replicate` reads REPLICATE_EU_API_TOKEN.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from app.core.errors import SettingsError
from app.core.http_client.protocol import Http, NoCalls
from app.media_generator.model_card import ModelCard

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class ProviderSettings(BaseModel):
    """Base of an adapter's settings: each field is a variable, its docstring the line in the documentation."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


ADDRESS: Final = "^https?://"
"""How the pattern of a setting begins that is an address."""

SettingsType = TypeVar("SettingsType", bound=ProviderSettings)


class RawAnswers(Protocol):
    """Keeps what a provider answered, so that it is durable before anybody tries to understand it."""

    async def keep(self, attempt_id: UUID, chunks: AsyncIterator[bytes], part: str = "") -> str:
        """Store an answer, or a part that came apart from it; the name under which it lies.

        A part's name is that of its answer, a dot, and `part`.

        Raises:
            OSError: It is not stored. Errors of `chunks` come through as they are.
        """
        ...

    async def find(self, attempt_id: UUID) -> str | None:
        """The name of the answer that was kept of an attempt, which is whole; None: none was.

        Raises:
            OSError: It cannot be said now.
        """
        ...

    def open(self, name: str) -> AsyncIterator[bytes]:
        """Read it, chunk by chunk.

        Raises:
            FileNotFoundError: There is nothing of that name.
            OSError: It cannot be read now.
        """
        ...

    async def drop(self, name: str) -> None:
        """It is not needed any more; dropping it twice is no error.

        Raises:
            OSError: It lies there still.
        """
        ...


@dataclass(frozen=True, slots=True)
class Account:
    """One account at a provider."""

    name: str
    """First part of its models' names, `[a-z0-9-]+`."""
    variables: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Its settings: names in lower case without the account's, such as `api_token`."""

    def variable(self, setting: str) -> str:
        """The environment variable of a setting."""
        return f"{self.name}_{setting}".upper().replace("-", "_")

    def read(self, kind: type[SettingsType]) -> SettingsType:
        """Its settings.

        Raises:
            SettingsError: One is missing or invalid; the message names its variable.
        """
        try:
            return kind.model_validate(dict(self.variables))
        except ValidationError as error:
            faults = [f"{self.variable(str(one['loc'][0]))}: {_in_words(one)}" for one in error.errors()]
            raise SettingsError("; ".join(faults)) from None


def _in_words(fault: "ErrorDetails") -> str:
    """What to change."""
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
    """Everything a provider is made from."""

    account: Account
    http: Http = field(default_factory=NoCalls)
    """The product's one client for other services; in the API it refuses."""
    models: Sequence[ModelCard] = ()
    """What the catalogue has for this account."""
    vault: RawAnswers | None = None
    """None: in processes that work on no jobs."""
