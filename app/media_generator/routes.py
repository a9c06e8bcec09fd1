"""Routes: names under which several models stand in order, each reached through a mapping of the input.

The next one is tried only where the one before provably cost nothing; who decides that is `rerouting.py` of media.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from app.media_generator.model_card import Json

PREFIX: Final = "route/"
"""How the name of a route begins."""


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model of a route, and how its input is made from the route's."""

    model: str
    """Its full name."""
    rename: Mapping[str, str] = {}
    """The route's parameter, and what the model calls it."""
    constant: Mapping[str, Json] = {}
    """Parameters of the model that are always these."""
    default: Mapping[str, Json] = {}
    """Parameters of the model where the request says nothing else."""

    def map_input(self, given: Mapping[str, Json], schema: Mapping[str, Json]) -> dict[str, Json]:
        """The model's input: what it does not know is left out.

        Args:
            given: The input as it was asked of the route.
            schema: Of the model's input.
        """
        known: Mapping[str, Json] = schema.get("properties", {})
        renamed = {self.rename.get(name, name): value for name, value in given.items()}
        kept = {name: value for name, value in renamed.items() if name in known}
        return {**self.default, **kept, **self.constant}

    def mapping_errors(self, schema: Mapping[str, Json]) -> list[str]:
        """What of the mapping the model does not know."""
        known: Mapping[str, Json] = schema.get("properties", {})
        meant = (("rename", self.rename.values()), ("constant", self.constant), ("default", self.default))
        return [
            f"{kind}: {self.model} has no parameter {name!r}"
            for kind, names in meant
            for name in names
            if name not in known
        ]


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the operator's file says of a route."""

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
