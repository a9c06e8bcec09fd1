"""Converts a Cog model's OpenAPI document to our input schema, JSON Schema 2020-12."""

from collections.abc import Mapping
from typing import Any, Final

from app.media_generator.adapter_kit.lenient_json import entries, members
from app.media_generator.errors import UnreadableAnswerError

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

    Raises:
        UnreadableAnswerError: It describes no input.
    """
    schemas = members(members(members(document).get("components")).get("schemas"))
    given = members(schemas.get("Input"))
    if not given:
        raise UnreadableAnswerError("the model's OpenAPI document describes no input")
    in_order = sorted(members(given.get("properties")).items(), key=lambda item: _order(item[1]))
    properties = {name: _resolve(rule, schemas, MAX_DEPTH) for name, rule in in_order if name != "prompt"}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }
    given_required = entries(given.get("required"))
    required = [name for name in properties if name in given_required and "default" not in properties[name]]
    return schema | ({"required": required} if required else {})


def _order(rule: Any) -> float:
    place = members(rule).get("x-order")
    return place if isinstance(place, int | float) else 0


def _resolve(rule: Any, schemas: Mapping[str, Any], deep: int) -> Any:
    """One rule with its references resolved."""
    if not isinstance(rule, dict) or deep == 0:
        return {}
    merged: dict[str, Any] = {}
    for part in _parts(members(rule), schemas, deep):
        merged |= part
    nullable = merged.pop("nullable", False)
    plain = {name: merged[name] for name in _KEPT if name in merged}
    if "items" in plain:
        plain["items"] = _resolve(plain["items"], schemas, deep - 1)
    if "anyOf" in plain:
        plain["anyOf"] = [_resolve(one, schemas, deep - 1) for one in entries(plain["anyOf"])]
    if nullable and isinstance(plain.get("type"), str):
        plain["type"] = [plain["type"], "null"]
    return plain


def _parts(rule: Mapping[str, Any], schemas: Mapping[str, Any], deep: int) -> list[Mapping[str, Any]]:
    """The parts of a rule, the most general first: `$ref`, `allOf`, then its own keywords."""
    parts: list[Mapping[str, Any]] = []
    if deep > 0:
        if isinstance(name := rule.get("$ref"), str):
            parts += _parts(members(schemas.get(name.rpartition("/")[2])), {}, deep - 1)
        for one in entries(rule.get("allOf")):
            parts += _parts(members(one), schemas, deep - 1)
    return [*parts, {name: value for name, value in rule.items() if name not in {"$ref", "allOf"}}]
