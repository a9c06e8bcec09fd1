"""Orders for the painter. Free of numpy, which only processes that paint load."""

from dataclasses import dataclass
from typing import Final, Literal

STYLES: Final = (
    "ridges",
    "dunes",
    "nebula",
    "aurora",
    "waves",
    "mosaic",
    "ink",
    "skyline",
    "bloom",
    "bauhaus",
    "agate",
    "papercut",
)
"""Names of the styles, as in `painters.STYLE_BOOK`."""


@dataclass(frozen=True, slots=True)
class Painting:
    """An order for a picture.

    Attributes:
        prompt: Any text, also an empty one.
        seed: Any whole number.
        width: In pixels, from 64 to 2048.
        height: In pixels, from 64 to 2048.
        style: One of `STYLES`; without it the prompt decides.
    """

    prompt: str
    seed: int
    width: int
    height: int
    style: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """One painting and the format of its file."""

    painting: Painting
    output_format: Literal["png", "webp", "jpeg"]
