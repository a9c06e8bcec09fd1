"""Searching what can be asked for: models and routes."""

from dataclasses import dataclass
from itertools import islice

from app.media_generator.model_card import ModelStatus
from app.media_generator.registry import Offer, Registry, Routed


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which models; what is None does not matter."""

    provider: str | None = None
    output_type: str | None = None
    """A media type, or its first part."""
    status: ModelStatus | None = None
    words: str | None = None
    after: str = ""
    """Only names that come after this one."""


def found(registry: Registry, wanted: Wanted, *, limit: int) -> list[Offer | Routed]:
    """Up to `limit` of what can be asked for, by name."""
    listed: list[Offer | Routed] = [*registry.offers(), *registry.routes()]
    listed.sort(key=lambda one: one.full_name)
    return list(islice((one for one in listed if one.full_name > wanted.after and _fits(one, wanted)), limit))


def _fits(listed: Offer | Routed, wanted: Wanted) -> bool:
    card = listed.card
    kinds = {*card.output_types, *(kind.partition("/")[0] for kind in card.output_types)}
    told = " ".join((listed.full_name, *card.aliases, card.title, card.description)).casefold()
    return (
        wanted.provider in {None, listed.full_name.partition("/")[0]}
        and (wanted.output_type is None or wanted.output_type in kinds)
        and wanted.status in {None, card.standing}
        and all(word in told for word in (wanted.words or "").casefold().split())
    )
