"""What stored outputs were made from, for their marks of origin: by which model, and whether files went in."""

from collections.abc import Callable
from typing import Any

from app.jobs.inputs.references import file_places
from app.jobs.outputs.marks import source_type
from app.media_generator.registry import Registry
from app.provenance.mark import SourceType


def source_types(registry: Registry) -> Callable[[str, Any], SourceType]:
    """As it is judged when outputs are stored; of a model that is no longer offered it is not known what files it took.

    Returns:
        A function of a model's full name and a media item's input.
    """
    offers = {offer.full_name: offer for offer in registry.offers()}

    def of(model: str, given: Any) -> SourceType:
        offer = offers.get(model)
        if offer is None:
            return SourceType.TRAINED
        return source_type(offer, from_files=any(file_places(offer.card.input_schema, given)))

    return of
