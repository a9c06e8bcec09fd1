"""Converts a Cog model's OpenAPI document to our input schema, JSON Schema 2020-12."""

from collections.abc import Mapping
from typing import Any, Final

MAX_DEPTH: Final = 12
_KEPT: Final = (
    *("type", "title", "description", "default", "enum", "format", "minimum", "maximum", "items", "anyOf"),
    *("minLength", "maxLength", "pattern", "minItems", "maxItems", "exclusiveMinimum", "exclusiveMaximum"),
)
"""Keywords that callers can use; the others are dropped, such as Replicate's display order."""


def input_schema(document: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of `input`: references resolved, `nullable` as a type, unknown parameters refused.

    `prompt` is left out: it is a field of every request. It is not sent to a model that has none.

    Args:
        document: The `openapi_schema` of a version, or Cog's own `/openapi.json`.
    """
    schemas: Mapping[str, Any] = document["components"]["schemas"]
    given: Mapping[str, Any] = schemas["Input"]
    in_order = sorted(given.get("properties", {}).items(), key=lambda item: item[1].get("x-order", 0))
    properties = {name: _resolve(rule, schemas, MAX_DEPTH) for name, rule in in_order if name != "prompt"}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }
    required = [name for name in given.get("required", ()) if name in properties and "default" not in properties[name]]
    return schema | ({"required": required} if required else {})


def _resolve(rule: Any, schemas: Mapping[str, Any], deep: int) -> Any:
    """One rule with its references resolved."""
    if not isinstance(rule, Mapping) or deep == 0:
        return {}
    merged: dict[str, Any] = {}
    for part in _parts(rule, schemas):  # pyright: ignore[reportUnknownArgumentType] - JSON
        merged |= part
    nullable = merged.pop("nullable", False)
    plain = {name: merged[name] for name in _KEPT if name in merged}
    if "items" in plain:
        plain["items"] = _resolve(plain["items"], schemas, deep - 1)
    if "anyOf" in plain:
        plain["anyOf"] = [_resolve(one, schemas, deep - 1) for one in plain["anyOf"]]
    if nullable and isinstance(plain.get("type"), str):
        plain["type"] = [plain["type"], "null"]
    return plain


def _parts(rule: Mapping[str, Any], schemas: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The parts of a rule, the most general first: `$ref`, `allOf`, then its own keywords."""
    parts: list[Mapping[str, Any]] = []
    if isinstance(name := rule.get("$ref"), str):
        parts += _parts(schemas.get(name.rpartition("/")[2], {}), {})
    for one in rule.get("allOf", ()):
        parts += _parts(one, schemas)
    return [*parts, {name: value for name, value in rule.items() if name not in {"$ref", "allOf"}}]
