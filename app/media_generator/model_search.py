"""Search over models and routes."""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice

from app.media_generator.model_card import ModelStatus
from app.media_generator.registry import Offer, Registry, RouteListing


@dataclass(frozen=True, slots=True)
class ModelQuery:
    """Filters of a search; None: no restriction."""

    provider: str | None = None
    output_type: str | None = None
    """A media type, or its first part."""
    statuses: Collection[ModelStatus] = ()
    """Empty: all."""
    words: str | None = None
    after: str = ""
    """Only names that sort after this one."""


def search(registry: Registry, filters: ModelQuery, *, limit: int) -> list[Offer | RouteListing]:
    """Up to `limit` matching models and routes, by name."""
    listed: list[Offer | RouteListing] = [*registry.offers(), *registry.routes()]
    listed.sort(key=lambda one: one.full_name)
    return list(islice((one for one in listed if one.full_name > filters.after and _matches(one, filters)), limit))


def _matches(listed: Offer | RouteListing, filters: ModelQuery) -> bool:
    card = listed.card
    kinds = {*card.output_types, *(kind.partition("/")[0] for kind in card.output_types)}
    text = " ".join((listed.full_name, *card.aliases, card.title, card.description)).casefold()
    return (
        filters.provider in {None, listed.full_name.partition("/")[0]}
        and (filters.output_type is None or filters.output_type in kinds)
        and (not filters.statuses or card.current_status in filters.statuses)
        and all(word in text for word in (filters.words or "").casefold().split())
    )
