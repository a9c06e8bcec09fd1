"""The demo model `dummy/painter`: paints a picture to a prompt with nothing but arithmetic."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from app.media_generator.dummy_media_generator.orders import STYLES, Painting
from app.media_generator.dummy_media_generator.painters import STYLE_BOOK
from app.media_generator.dummy_media_generator.painters.scene import Scene
from app.media_generator.dummy_media_generator.palettes import Floats, choose_palette, palette_named
from app.media_generator.dummy_media_generator.words import best_match, stable_number

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["STYLES", "Painting", "choose_style", "encode", "paint"]

_WORDS: Final = {name: (name, *style.words.split()) for name, style in STYLE_BOOK.items()}
_STRIP: Final = 64
"""Rows that are finished at a time, so that they stay in the processor's cache."""

_FINISH: Final = 0.9
"""Share of the work that is done when the finish begins."""


def choose_style(prompt: str, seed: int) -> str:
    """Name the style a prompt asks for by its words, else one by prompt and seed."""
    return best_match(prompt, _WORDS) or STYLES[stable_number("style", prompt, seed) % len(STYLES)]


def paint(painting: Painting, on_progress: Callable[[float], None]) -> npt.NDArray[np.uint8]:
    """Paint a picture; the same order gives the same pixels, in every process.

    Args:
        painting: What to paint.
        on_progress: Called at least four times with the share that is done, rising from above 0 to 1. What
            it raises ends the painting.

    Returns:
        Bytes in sRGB, of shape (height, width, 3).

    Raises:
        ValueError: There is no such style.
    """
    name = painting.style or choose_style(painting.prompt, painting.seed)
    if name not in STYLE_BOOK:
        raise ValueError(f"there is no style {name!r}, but {', '.join(STYLES)}")
    style = STYLE_BOOK[name]
    on_progress(0.01)
    scene = Scene(
        width=painting.width,
        height=painting.height,
        rng=_chance(name, painting.prompt, painting.seed),
        palette=palette_named(choose_palette(painting.prompt, painting.seed, style.palettes)),
        report=lambda share: on_progress(0.02 + (_FINISH - 0.02) * share),
    )
    image = style.paint(scene)
    on_progress(_FINISH)
    pixels = _finish(image, style.vignette, _chance("grain", painting.prompt, painting.seed))
    on_progress(1.0)
    return pixels


def encode(pixels: npt.NDArray[np.uint8], output_format: Literal["png", "webp", "jpeg"]) -> bytes:
    """Encode bytes in sRGB of shape (height, width, 3) as a file."""
    picture = Image.fromarray(pixels)
    buffer = io.BytesIO()
    if output_format == "png":
        picture.save(buffer, "PNG", compress_level=3)
    elif output_format == "webp":
        picture.save(buffer, "WEBP", quality=88, method=2)
    else:
        picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _chance(*parts: str | int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(stable_number(*parts)))


def _grain(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Make noise around the half that rounding down takes away, as bytes."""
    even: Floats = rng.random(shape, dtype=np.float32)
    return even * np.float32(2) - np.float32(0.5)


def _finish(image: Floats, vignette: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Darken the corners a little, add the grain that hides banding, and round to bytes.

    Args:
        image: Of shape (3, height, width), from 0 to 1; what lies outside is clipped.
        vignette: By which share the corners are darkened.
        rng: Makes the grain, whose count of numbers depends on the size.
    """
    _, height, width = image.shape
    pixels = np.empty((height, width, 3), np.uint8)
    across = (np.arange(width, dtype=np.float32) + 0.5) / width * 2 - 1
    for top in range(0, height, _STRIP):
        rows = slice(top, min(top + _STRIP, height))
        down = (np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5) / height * 2 - 1
        corner = (across**2 + down[:, None] ** 2) / 2
        light = (1.0 - vignette * corner * corner) * 255
        grain = _grain(rng, corner.shape)
        for channel in range(3):
            values: Floats = image[channel, rows] * light + grain
            pixels[rows, :, channel] = np.clip(values, 0, 255, out=values)
    return pixels
