"""Model cards for the operator's own servers, known only to be compatible with OpenAI."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from app.media_generator.model_card import ModelCard

UNNAMED_MODEL: Final = "images"
"""The model where the operator names none; requests then contain no model name."""

_CARD: Final = ModelCard(
    name=UNNAMED_MODEL,
    title="Images of an OpenAI-compatible server",
    description="The model of the server at this address; it may ignore parameters.",
    output_types=("image/png", "image/jpeg", "image/webp"),
    input_schema={
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "n": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1, "description": "Number of images."},
            "size": {"type": "string", "pattern": "^[1-9][0-9]{1,3}x[1-9][0-9]{1,3}$", "description": "Pixels."},
            "quality": {"type": "string", "maxLength": 32},
            "style": {"type": "string", "maxLength": 32},
            "output_format": {"enum": ["png", "jpeg", "webp"]},
            "seed": {"type": "integer", "minimum": 0, "maximum": 9_007_199_254_740_991},
            "negative_prompt": {"type": "string", "maxLength": 32_000},
            "num_inference_steps": {"type": "integer", "minimum": 1, "maximum": 200},
            "guidance_scale": {"type": "number", "minimum": 0, "maximum": 50},
            "image": {
                "type": "array",
                "minItems": 1,
                "maxItems": 16,
                "items": {"type": "string", "format": "uri"},
                "description": "Reference images; with them the request is an edit.",
            },
            "mask": {"type": "string", "format": "uri", "description": "Its transparent parts are edited."},
        },
        "dependentRequired": {"mask": ["image"]},
    },
    example={"size": "512x512"},
    options={"request": {"response_format": "b64_json"}},
)


def cards(names: Sequence[str], known: Sequence[ModelCard]) -> list[ModelCard]:
    """A card for each model name that the operator configured.

    Args:
        names: Of models; empty: the server has only one, or chooses.
        known: Cards of the catalogue; a gateway may offer the same models.
    """
    by_name = {card.name: replace(card, aliases=(), price=None) for card in known}
    return [by_name.get(name) or replace(_CARD, name=name) for name in names or (UNNAMED_MODEL,)]


def extra_cards(names: Sequence[str], known: Sequence[ModelCard]) -> list[ModelCard]:
    """Cards for models of OpenAI that are not in the catalogue; OpenAI itself accepts no `response_format`."""
    listed = {card.name for card in known}
    return [replace(_CARD, name=name, title=name, options={}) for name in names if name not in listed]
