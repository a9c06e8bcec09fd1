"""The providers of a process, looked up by model name, and what is wrong with an input. Loading them: `plugins.py`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Any, Final

import jsonschema_rs

from app.core.errors import MOST_FAULTS
from app.media_generator.cards import ModelCard
from app.media_generator.media_generator_model import MediaGeneratorModel

LIMITS: Final = ("type", "enum", "const", "minimum", "maximum", "minLength", "maxLength", "pattern")
"""What of a schema is shown as `allowed`."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that can be asked for, with its provider and its compiled schema."""

    full_name: str
    """`provider/name`."""
    provider: MediaGeneratorModel
    card: ModelCard
    validator: jsonschema_rs.Draft202012Validator

    @property
    def queue(self) -> str:
        """Which slots of a worker it takes."""
        return "local" if self.card.local else "network"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with an input."""

    field: str
    """Dotted path below `input`, such as `input.width`."""
    message: str
    given: Any
    allowed: Any


class UnknownModelError(LookupError):
    """Nobody offers a model of this name."""

    def __init__(self, name: str, near: list[str]) -> None:
        super().__init__(name)
        self.name = name
        self.near = near
        """Names that were perhaps meant; all names where none is near."""


class Registry:
    """The providers of this process."""

    def __init__(self, providers: Iterable[MediaGeneratorModel], broken: Mapping[str, str] | None = None) -> None:
        self.providers = {provider.name: provider for provider in providers}
        self.broken = dict(broken or {})
        """Plug-ins that could not be loaded, and why."""
        self._offers = {
            f"{provider.name}/{card.name}": Offer(
                f"{provider.name}/{card.name}",
                provider,
                card,
                jsonschema_rs.Draft202012Validator(dict(card.input_schema)),
            )
            for provider in self.providers.values()
            for card in provider.models()
        }
        self._aliases = {alias: offer for offer in self._offers.values() for alias in offer.card.aliases}

    def offers(self) -> list[Offer]:
        """All models, by name."""
        return [self._offers[name] for name in sorted(self._offers)]

    def find(self, name: str) -> Offer:
        """The model of that full name or alias.

        Raises:
            UnknownModelError: There is none.
        """
        offer = self._offers.get(name) or self._aliases.get(name)
        if offer is None:
            near = get_close_matches(name, self._offers, n=3, cutoff=0.4)
            raise UnknownModelError(name, near or sorted(self._offers))
        return offer

    async def close(self) -> None:
        """Close every provider."""
        for provider in self.providers.values():
            await provider.close()


def faults(offer: Offer, given: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with an `input`, one entry for each field, the first MOST_FAULTS; empty if nothing is."""
    found = (fault for error in offer.validator.iter_errors(given) for fault in _explain(offer, error))
    return list(islice(found, MOST_FAULTS))


def whole_numbers(offer: Offer, given: Mapping[str, Any]) -> dict[str, Any]:
    """An input that fits the schema, with 1.0 as 1 where the schema says integer: JSON makes no difference."""
    rules: Mapping[str, Any] = offer.card.input_schema.get("properties", {})
    return {
        name: int(value) if isinstance(value, float) and rules.get(name, {}).get("type") == "integer" else value
        for name, value in given.items()
    }


def _explain(offer: Offer, error: jsonschema_rs.ValidationError) -> list[Fault]:
    path = ".".join(["input", *(str(part) for part in error.instance_path)])
    kind = error.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
        known = sorted(offer.card.input_schema.get("properties", {}))
        given: Any = error.instance
        return [
            Fault(f"{path}.{name}", f"{offer.full_name} has no parameter {name!r}", given[name], known)
            for name in kind.unexpected[:MOST_FAULTS]
        ]
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        return [Fault(f"{path}.{kind.property}", "this parameter is required", None, None)]
    rule = _at(offer.card.input_schema, error.schema_path[:-1])
    return [Fault(path, error.message, error.instance, {name: rule[name] for name in LIMITS if name in rule})]


def _at(schema: Any, path: Sequence[str | int]) -> Any:
    for part in path:
        schema = schema[part]
    return schema
