"""Workflows as models: each `name.json`, exported from ComfyUI for its API, has a `name.toml` that describes inputs.

The sheet (`name.toml`) names the fields for the prompt and each input, as `node.field`. The rest of the graph stays
unchanged.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from app.core.errors import SettingsError
from app.media_generator.model_card import Json, ModelCard

LARGEST_SEED: Final = 2**53 - 1
"""Largest random seed; JSON parsers that use floating point represent it exactly."""
_NAME: Final = re.compile(r"[\w.-]+")


class _Rule(msgspec.Struct, forbid_unknown_fields=True):
    """One input."""

    to: str | list[str]
    schema: dict[str, Json]
    required: bool = False
    random: bool = False


class _Sheet(msgspec.Struct, forbid_unknown_fields=True):
    """The content of a `name.toml`."""

    title: str
    prompt: str | list[str]
    description: str = ""
    output_types: tuple[str, ...] = ("image/png",)
    outputs: list[str] = []
    minutes: float | None = None
    inputs: dict[str, _Rule] = {}
    example: dict[str, Json] = {}


class Graph(msgspec.Struct, frozen=True):
    """A workflow and the fields for its inputs: the `options` of its card."""

    nodes: dict[str, Json]
    prompt: list[str]
    places: dict[str, list[str]]
    """The fields of each input."""
    random: list[str]
    """Inputs that are drawn at random if they are not given."""
    outputs: list[str]
    """Nodes whose files count; empty: all."""


def read_folder(folder: Path) -> list[ModelCard]:
    """A card for each workflow in a folder, by name.

    Raises:
        SettingsError: There is no such folder, or a file in it is invalid; the message names it.
    """
    if not folder.is_dir():
        raise SettingsError(f"{folder} is not a folder")
    cards = [_card(sheet) for sheet in sorted(folder.glob("*.toml"))]
    if not cards:
        raise SettingsError(f"{folder} has no workflow: none of its files ends in .toml")
    return cards


def graph_of(card: ModelCard) -> Graph:
    """The workflow of a card."""
    return msgspec.convert(card.options, Graph)


def fill_in(graph: Graph, prompt: str, given: Mapping[str, Json]) -> dict[str, Json]:
    """The nodes of a workflow with the prompt and inputs filled in."""
    nodes = deepcopy(graph.nodes)
    for place in graph.prompt:
        _set_field(nodes, place, prompt)
    for name, value in given.items():
        for place in graph.places.get(name, []):
            _set_field(nodes, place, value)
    return nodes


def _card(file: Path) -> ModelCard:
    workflow = file.with_suffix(".json")
    try:
        sheet = msgspec.toml.decode(file.read_bytes(), type=_Sheet)
        written = workflow.read_bytes()
        nodes: Any = msgspec.json.decode(written)
        graph = _graph(sheet, nodes)
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
        raise SettingsError(f"{file.name}: {error}") from error
    if not _NAME.fullmatch(file.stem):
        raise SettingsError(f"{file.name}: a name may contain only letters, digits, '.', '-' and '_'")
    return ModelCard(
        name=file.stem,
        title=sheet.title,
        description=sheet.description or sheet.title,
        output_types=sheet.output_types,
        input_schema={
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "additionalProperties": False,
            "required": [name for name, rule in sheet.inputs.items() if rule.required],
            "properties": {name: _schema(rule, nodes) for name, rule in sheet.inputs.items()},
        },
        example=sheet.example,
        version=hashlib.sha256(written).hexdigest()[:12],
        time_limit=timedelta(minutes=sheet.minutes) if sheet.minutes is not None else None,
        options=msgspec.to_builtins(graph),
    )


def _graph(sheet: _Sheet, nodes: Any) -> Graph:
    if not isinstance(nodes, dict) or "nodes" in nodes:
        raise ValueError("its .json was saved for the editor; export it with Workflow > Export (API)")
    graph = Graph(
        nodes=nodes,  # pyright: ignore[reportUnknownArgumentType] - defined by ComfyUI
        prompt=_as_list(sheet.prompt),
        places={name: _as_list(rule.to) for name, rule in sheet.inputs.items()},
        random=[name for name, rule in sheet.inputs.items() if rule.random],
        outputs=sheet.outputs,
    )
    for place in _all_places(graph):
        node, _, field = place.rpartition(".")
        if not field or not isinstance(graph.nodes.get(node), dict):
            raise ValueError(f"{place!r} names no node of the workflow; write node.field, such as '6.text'")
    for node in graph.outputs:
        if node not in graph.nodes:
            raise ValueError(f"outputs: there is no node {node!r}")
    return graph


def _all_places(graph: Graph) -> Iterator[str]:
    yield from graph.prompt
    for places in graph.places.values():
        yield from places


def _as_list(places: str | Sequence[str]) -> list[str]:
    return [places] if isinstance(places, str) else list(places)


def _schema(rule: _Rule, nodes: Mapping[str, Json]) -> dict[str, Json]:
    """The schema of an input; the workflow's own value is the default where it has one."""
    if rule.required or rule.random or "default" in rule.schema or rule.schema.get("format") == "uri":
        return rule.schema
    node, _, field = _as_list(rule.to)[0].rpartition(".")
    current = nodes[node].get("inputs", {}).get(field)
    # A list is a link to another node.
    return rule.schema if current is None or isinstance(current, list) else {**rule.schema, "default": current}


def _set_field(nodes: dict[str, Json], place: str, value: Json) -> None:
    node, _, field = place.rpartition(".")
    nodes[node].setdefault("inputs", {})[field] = value
