"""The providers of a process, looked up by model name, and validation of inputs. Loading them: `loading.py`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from itertools import islice
from typing import Any, Final

import jsonschema_rs
import msgspec

from app.core.errors import MOST_FAULTS
from app.media_generator.catalogue import Catalogue
from app.media_generator.media_generator_model import MediaGeneratorModel
from app.media_generator.model_card import Json, ModelCard, defaults
from app.media_generator.routes import PREFIX, Route, Target

MAX_SUGGESTIONS: Final = 3
"""Names that are suggested for an unknown one."""
LIMITS: Final = ("type", "enum", "const", "minimum", "maximum", "minLength", "maxLength", "pattern")
"""Keywords of a schema that are shown as `allowed`."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A model or route that can be requested, with its compiled schema."""

    full_name: str
    """`provider/name`."""
    card: ModelCard
    validator: jsonschema_rs.Draft202012Validator


@dataclass(frozen=True, slots=True)
class RouteListing(Listing):
    """A route; its card combines the operator's entry and its first target."""

    targets: tuple[tuple[Target, "Offer"], ...]
    """The targets that are on offer, in order."""


@dataclass(frozen=True, slots=True)
class Offer(Listing):
    """A model that can be requested, with its provider."""

    provider: MediaGeneratorModel
    hidden: bool
    """The operator has hidden it from new requests; existing jobs go on."""
    queue: str
    """Which slots of a worker it occupies: `network` or `local`."""
    defaults: Mapping[str, Json]
    """Of its parameters."""
    takes_files: bool
    """Whether any parameter may name a file: `"format": "uri"` stands somewhere in its schema."""

    def complete(self, given: Mapping[str, Json]) -> dict[str, Json]:
        """A valid input with all defaults filled in: the operator's first, then those of the adapter."""
        return self.provider.complete_input(self.card.name, {**self.defaults, **given})


@dataclass(frozen=True, slots=True)
class Fault:
    """One error in an input."""

    field: str
    """Dotted path below `input`, such as `input.width`."""
    message: str
    given: Any
    allowed: Any


class UnknownModelError(LookupError):
    """No model or route has this name."""

    def __init__(self, name: str, suggestions: list[str]) -> None:
        super().__init__(name)
        self.name = name
        self.suggestions = suggestions
        """Similar names; all names where none is similar."""


class Registry:
    """The providers of this process."""

    def __init__(
        self,
        providers: Iterable[MediaGeneratorModel],
        load_errors: Mapping[str, str] | None = None,
        catalogue: Catalogue | None = None,
    ) -> None:
        chosen = catalogue or Catalogue()
        self.providers = {provider.name: provider for provider in providers}
        self.load_errors = dict(load_errors or {})
        """Plug-ins that could not be loaded and routes that are invalid, each with the reason."""
        self.unconfigured: Mapping[str, Callable[[], str]] = {}
        """Installed kinds of providers without an account; the value returns the variables that would configure one."""
        offers = [_offer(chosen, provider, card) for provider in self.providers.values() for card in provider.models()]
        self._offers = {offer.full_name: offer for offer in offers}
        self._aliases = {alias: offer for offer in reversed(offers) for alias in offer.card.aliases}
        self._routes = dict[str, RouteListing]()
        for route in chosen.routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        targets = tuple(
            (target, self._offers[target.model]) for target in route.targets if target.model in self._offers
        )
        if not targets:
            self.load_errors[route.name] = f"no provider offers {', '.join(target.model for target in route.targets)}"
            return
        errors = [fault for target, offer in targets for fault in target.mapping_errors(offer.card.input_schema)]
        if errors:
            self.load_errors[route.name] = "; ".join(errors[:MOST_FAULTS])
            return
        self._routes[route.name] = _route_listing(route, targets)

    def offers(self, *, hidden: bool = False) -> list[Offer]:
        """All models on offer, by name; with `hidden` also those that the operator has hidden."""
        return [offer for _, offer in sorted(self._offers.items()) if hidden or not offer.hidden]

    def routes(self) -> list[RouteListing]:
        """All routes, by name."""
        return [self._routes[name] for name in sorted(self._routes)]

    def route(self, name: str) -> RouteListing | None:
        """The route of that name; None: there is none."""
        return self._routes.get(name)

    def resolve(self, name: str) -> Offer | RouteListing:
        """The model or route that a request means by a name, aliases included.

        Raises:
            UnknownModelError: There is none, or the operator has hidden it.
        """
        routed = self._routes.get(name)
        if routed is not None:
            return routed
        offer = self._offers.get(name) or self._aliases.get(name)
        if offer is None or offer.hidden:
            raise self._unknown(name)
        return offer

    def find(self, name: str) -> Offer:
        """The model of that full name or alias, hidden ones included.

        Raises:
            UnknownModelError: There is none.
        """
        offer = self._offers.get(name) or self._aliases.get(name)
        if offer is None:
            raise self._unknown(name)
        return offer

    def suggestions(self, name: str) -> list[str]:
        """Similar names on offer; all names where none is similar."""
        names = sorted({*self._routes, *(offer.full_name for offer in self.offers())} - {name})
        return get_close_matches(name, names, n=MAX_SUGGESTIONS, cutoff=0.4) or names

    def _unknown(self, name: str) -> UnknownModelError:
        return UnknownModelError(name, self.suggestions(name))

    async def close(self) -> None:
        """Close every provider."""
        for provider in self.providers.values():
            await provider.close()


def _offer(catalogue: Catalogue, provider: MediaGeneratorModel, card: ModelCard) -> Offer:
    full_name = f"{provider.name}/{card.name}"
    overridden = catalogue.with_overrides(full_name, card)
    schema = overridden.input_schema
    return Offer(
        full_name,
        overridden,
        jsonschema_rs.Draft202012Validator(dict(schema)),
        provider,
        hidden=catalogue.is_hidden(full_name),
        queue="local" if overridden.local else "network",
        defaults=defaults(schema),
        takes_files=b'"format":"uri"' in msgspec.json.encode(dict(schema)),
    )


def _route_listing(route: Route, targets: tuple[tuple[Target, Offer], ...]) -> RouteListing:
    first = targets[0][1].card
    schema = first.input_schema if route.input_schema is None else route.input_schema
    made = {kind: None for _, offer in targets for kind in offer.card.output_types}
    default_example = first.example if route.input_schema is None else dict[str, Json]()
    card = ModelCard(
        name=route.name.removeprefix(PREFIX),
        title=route.title or f"Route to {', '.join(offer.full_name for _, offer in targets)}",
        description=route.description,
        output_types=tuple(made),
        input_schema=schema,
        example=default_example if route.example is None else route.example,
        time_limit=None if route.time_limit is None else timedelta(seconds=route.time_limit),
    )
    return RouteListing(route.name, card, jsonschema_rs.Draft202012Validator(dict(schema)), targets)


def faults(offer: Listing, given: Mapping[str, Any]) -> list[Fault]:
    """The errors in an `input`, one for each field, at most MOST_FAULTS; empty if it is valid."""
    found = (fault for error in offer.validator.iter_errors(given) for fault in _explain(offer, error))
    return list(islice(found, MOST_FAULTS))


def normalize_integers(offer: Listing, given: Mapping[str, Any]) -> dict[str, Any]:
    """A valid input with 1.0 as 1 where the schema says integer: JSON does not distinguish them."""
    rules: Mapping[str, Any] = offer.card.input_schema.get("properties", {})
    return {
        name: int(value) if isinstance(value, float) and rules.get(name, {}).get("type") == "integer" else value
        for name, value in given.items()
    }


def _explain(offer: Listing, error: jsonschema_rs.ValidationError) -> list[Fault]:
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
