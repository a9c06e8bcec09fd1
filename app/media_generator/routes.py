"""Routes: a name for an ordered list of models, each with a mapping of the input.

The next model is tried only if the previous one provably cost nothing; `app/jobs/execution/fallback.py` decides that.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from app.media_generator.model_card import Json

PREFIX: Final = "route/"
"""Prefix of every route's name."""


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model of a route, and how its input is derived from the route's."""

    model: str
    """Its full name."""
    rename: Mapping[str, str] = {}
    """Parameter names of the route, and the model's names for them."""
    constant: Mapping[str, Json] = {}
    """Fixed values of the model's parameters."""
    default: Mapping[str, Json] = {}
    """Values of the model's parameters that a request does not set."""

    def map_input(self, given: Mapping[str, Json], schema: Mapping[str, Json]) -> dict[str, Json]:
        """The model's input; parameters that it does not have are dropped.

        Args:
            given: The input of the request to the route.
            schema: Of the model's input.
        """
        known: Mapping[str, Json] = schema.get("properties", {})
        renamed = {self.rename.get(name, name): value for name, value in given.items()}
        kept = {name: value for name, value in renamed.items() if name in known}
        return {**self.default, **kept, **self.constant}

    def mapping_errors(self, schema: Mapping[str, Json]) -> list[str]:
        """Messages about parameters in the mapping that the model does not have."""
        known: Mapping[str, Json] = schema.get("properties", {})
        mapping = (("rename", self.rename.values()), ("constant", self.constant), ("default", self.default))
        return [
            f"{kind}: {self.model} has no parameter {name!r}"
            for kind, names in mapping
            for name in names
            if name not in known
        ]


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A route in the operator's file."""

    name: str
    """`route/` and a name."""
    targets: tuple[Target, ...]
    """In the order in which they are tried."""
    title: str = ""
    description: str = ""
    input_schema: Mapping[str, Json] | None = None
    """None: that of the first target."""
    example: Mapping[str, Json] | None = None
    """None: that of the first target."""
    time_limit: float | None = None
    """Seconds; None: that of the target."""
