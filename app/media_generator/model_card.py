"""Static data of a model: names, schema, price, status. No behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from app.core import clock

Json = Any
"""A JSON value: dict, list, str, int, float, bool or None."""


class PriceUnit(StrEnum):
    """The unit that a price is for."""

    RUN = "run"  # one submission, whatever its outputs
    OUTPUT = "output"  # one image, video or audio file
    SECOND = "second"  # of computation, or of video; as the provider defines it
    MEGAPIXEL = "megapixel"
    TOKEN = "token"  # noqa: S105 - not a secret


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one unit."""

    amount: Decimal
    per: PriceUnit = PriceUnit.OUTPUT
    currency: str = "USD"


class ModelStatus(StrEnum):
    """Lifecycle of a model."""

    ACTIVE = "active"
    DEPRECATED = "deprecated"  # still available; its successor is named
    RETIRED = "retired"  # no longer available


def defaults(schema: Mapping[str, Json]) -> dict[str, Json]:
    """The default values of an input schema."""
    properties: Mapping[str, Mapping[str, Json]] = schema.get("properties", {})
    return {name: rule["default"] for name, rule in properties.items() if "default" in rule}


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model that can be requested."""

    name: str
    """Without the provider: `painter` of `dummy/painter`."""
    title: str
    description: str
    output_types: tuple[str, ...]
    """Media types of its outputs, such as `image/png`."""
    input_schema: Mapping[str, Json]
    """JSON Schema 2020-12 of `input`, an object that refuses unknown properties. A string of format `uri` is an
    input file."""
    example: Mapping[str, Json]
    """An `input` that the schema accepts."""
    version: str | None = None
    local: bool = False
    """It computes on the worker's machine, so it occupies one of the few local slots."""
    trained: bool = True
    """A trained model makes its outputs; False: an algorithm that was not trained. The mark of origin says which."""
    time_limit: timedelta | None = None
    """Time limit of a media item whose request sets none; None: no limit."""
    price: Price | None = None
    """None: unknown."""
    status: ModelStatus = ModelStatus.ACTIVE
    retired_at: date | None = None
    """The first day on which it is no longer available, past or announced."""
    successor: str | None = None
    """The full name of the model that replaces it."""
    aliases: tuple[str, ...] = ()
    """Alternative full names under which it can be requested."""
    options: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """Data for its adapter alone, such as the address of a container or the nodes of a workflow."""

    @property
    def current_status(self) -> ModelStatus:
        """Its status today, which `retired_at` may have changed."""
        retired = self.retired_at is not None and self.retired_at <= clock.now().date()
        return ModelStatus.RETIRED if retired else self.status
