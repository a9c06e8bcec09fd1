"""What is known of a model before anybody asks for it: names, schema, price, standing. Data, no behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

Json = Any
"""A JSON value: dict, list, str, int, float, bool or None."""


class PriceUnit(StrEnum):
    """What a price is for."""

    RUN = "run"  # one submission, whatever it brings
    OUTPUT = "output"  # one picture, video or sound
    SECOND = "second"  # of computing, or of the video; the provider's word decides
    MEGAPIXEL = "megapixel"
    TOKEN = "token"  # noqa: S105 - no secret


@dataclass(frozen=True, slots=True)
class Price:
    """What one unit costs, as far as it is known."""

    amount: Decimal
    per: PriceUnit = PriceUnit.OUTPUT
    currency: str = "USD"


class ModelStatus(StrEnum):
    """Where a model stands."""

    ACTIVE = "active"
    DEPRECATED = "deprecated"  # still sold; its successor is named
    RETIRED = "retired"  # not sold any more


def defaults(schema: Mapping[str, Json]) -> dict[str, Json]:
    """What a schema of an input says of parameters that are not given."""
    properties: Mapping[str, Mapping[str, Json]] = schema.get("properties", {})
    return {name: rule["default"] for name, rule in properties.items() if "default" in rule}


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model that can be asked for."""

    name: str
    """Without the provider: `painter` of `dummy/painter`."""
    title: str
    description: str
    output_types: tuple[str, ...]
    """Media types of what it makes, such as `image/png`."""
    input_schema: Mapping[str, Json]
    """JSON Schema 2020-12 of `input`, an object that refuses unknown properties. A string of format `uri` takes an
    input file."""
    example: Mapping[str, Json]
    """An `input` that the schema accepts."""
    version: str | None = None
    local: bool = False
    """It computes on the worker's machine, so it takes one of the few local slots."""
    time_limit: timedelta | None = None
    """How long a media may take if its request does not say; None: as long as it takes."""
    price: Price | None = None
    """None: not known."""
    status: ModelStatus = ModelStatus.ACTIVE
    retired_at: date | None = None
    """The day from which it is not sold any more, past or announced."""
    successor: str | None = None
    """The full name of the model that takes its place."""
    aliases: tuple[str, ...] = ()
    """Further full names under which it can be asked for."""
    options: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """What its adapter alone needs, such as the address of a container or the nodes of a workflow."""

    @property
    def current_status(self) -> ModelStatus:
        """Its status today: the day on which it retires comes by itself."""
        gone = self.retired_at is not None and self.retired_at <= datetime.now(UTC).date()
        return ModelStatus.RETIRED if gone else self.status
