"""Cards and settings of the local models; loads none of the libraries that compute."""

from importlib.util import find_spec
from typing import Final

from pydantic import Field

from app.media_generator.accounts import ProviderSettings
from app.media_generator.model_card import Json, ModelCard

MAX_PIXELS: Final = 64_000_000
"""Largest input picture; a small file may contain very many pixels."""
STYLES: Final = (
    "ochre",
    "labyrinth",
    "charcoal",
    "confetti",
    "crimson",
    "ember",
    "seeds",
    "nocturne",
    "crayon",
    "batik",
    "copper",
    "etching",
    "lilac",
    "meadow",
    "frost",
    "leaded-glass",
    "cobalt",
    "weave",
    "parchment",
    "starry",
    "scarlet",
    "cut-paper",
    "slate",
    "velvet",
    "woodblock",
    "dusk",
)
"""In the network's order; it has no names, so these are ours, by appearance."""

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_FORMAT: Final[Json] = {"enum": ["png", "webp"], "default": "png", "description": "Format of the file."}
_SEED: Final[Json] = {"type": "integer", "minimum": 0, "maximum": 4_294_967_295}

PAINT_STYLES: Final = ModelCard(
    name="paint-styles",
    title="Painting styles",
    description="Repaints your picture in one of 26 styles, with a small neural network on this machine; without a "
    "picture, one that is painted for the prompt.",
    output_types=("image/png", "image/webp"),
    input_schema={
        "$schema": _DIALECT,
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "image": {
                "type": "string",
                "format": "uri",
                "description": "The picture; if it is not given, the procedural painter makes one for the prompt.",
            },
            "style": {"enum": list(STYLES), "default": "starry", "description": "The style."},
            "size": {
                "type": "integer",
                "minimum": 64,
                "maximum": 2048,
                "default": 1024,
                "description": "Longest side in pixels, at most; a smaller picture is not enlarged.",
            },
            "strength": {
                "type": "number",
                "minimum": 0,
                "maximum": 1,
                "default": 1,
                "description": "0 leaves the picture unchanged.",
            },
            "keep_colours": {
                "type": "boolean",
                "default": False,
                "description": "Whether the picture keeps its own colours.",
            },
            "seed": {**_SEED, "description": "Seed of the picture that is painted if none is given."},
            "output_format": _FORMAT,
        },
    },
    example={"style": "woodblock", "size": 512, "seed": 7},
    version="1",
    local=True,
)


class LocalSettings(ProviderSettings):
    """Settings for models on the workers' machines."""

    pipeline: str | None = None
    """A text-to-image pipeline for Diffusers: a folder, or its name on the hub; unset: none is offered."""
    pipeline_title: str | None = None
    """Title shown to callers; unset: the last part of `pipeline`."""
    local_files_only: bool = True
    """Whether the pipeline must already be on this machine; false allows downloading it from the hub, once."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    """Device of the pipeline: auto, cpu, cuda, cuda:1, mps."""
    pipeline_size: int = Field(default=512, ge=8, le=2048, multiple_of=8)
    """Default width and height of its pictures, in pixels."""
    pipeline_steps: int = Field(default=25, ge=1, le=200)
    """Default number of steps."""
    idle_seconds: float = Field(default=600, gt=0, le=86_400)
    """Seconds without orders after which a model's process ends and frees its memory."""


def is_installed(*packages: str) -> bool:
    """Whether packages can be imported; imports none of them."""
    return all(find_spec(package) is not None for package in packages)


def pipeline_card(settings: LocalSettings) -> ModelCard:
    """The operator's pipeline as a model."""
    # Only the last part of the folder is shown to callers.
    name = (settings.pipeline or "").rstrip("/").rpartition("/")[2]
    side = {"type": "integer", "minimum": 8, "maximum": 2048, "multipleOf": 8, "default": settings.pipeline_size}
    return ModelCard(
        name="text-to-image",
        title=settings.pipeline_title or name,
        description="A diffusion pipeline on this machine.",
        output_types=("image/png", "image/webp"),
        input_schema={
            "$schema": _DIALECT,
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "negative_prompt": {
                    "type": "string",
                    "maxLength": 2000,
                    "default": "",
                    "description": "What should not appear, if the pipeline supports it.",
                },
                "width": {**side, "description": "Pixels."},
                "height": {**side, "description": "Pixels."},
                "steps": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 200,
                    "default": settings.pipeline_steps,
                    "description": "More steps take longer and show more detail.",
                },
                "guidance": {
                    "type": "number",
                    "minimum": 0,
                    "maximum": 30,
                    "default": 7,
                    "description": "How closely the prompt is followed, if the pipeline supports it.",
                },
                "seed": {**_SEED, "description": "The same seed gives the same picture on the same kind of machine."},
                "output_format": _FORMAT,
            },
        },
        example={"steps": 4, "seed": 7},
        version=name,
        local=True,
    )
