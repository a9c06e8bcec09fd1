"""What every painter works with: the size, the chance, the colours and how to blend them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw

from app.media_generator.dummy_media_generator.palettes import TABLE_SIZE, Floats, Palette

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BAND: Final = 64
"""Rows of a band."""

_FINE: Final = 1300
"""Short side in pixels from which shapes are smoothed with fewer samples, to save memory."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture in the making.

    Lengths are in units of the short side, so that a composition is the same at every size. Images are
    planar, of shape (3, height, width), which keeps each operation on one contiguous plane.

    Attributes:
        width: In pixels.
        height: In pixels.
        rng: Draw from it only numbers whose count does not depend on the size in pixels.
        palette: The colours.
        report: Takes the rising share of the picture that is done, above 0 and up to 1.
    """

    width: int
    height: int
    rng: np.random.Generator
    palette: Palette
    report: Callable[[float], None]

    @property
    def unit(self) -> int:
        """The short side, in pixels."""
        return min(self.width, self.height)

    @property
    def across(self) -> float:
        """The width in units of the short side."""
        return self.width / self.unit

    @property
    def down(self) -> float:
        """The height in units of the short side."""
        return self.height / self.unit

    @property
    def x(self) -> Floats:
        """Horizontal places of the pixels from the left, in units, of shape (width,)."""
        return ((np.arange(self.width, dtype=np.float32) + 0.5) / self.unit).astype(np.float32)

    @property
    def y(self) -> Floats:
        """Vertical places of the pixels from the top, in units, of shape (height, 1)."""
        rows = (np.arange(self.height, dtype=np.float32) + 0.5) / self.unit
        return rows.astype(np.float32)[:, None]

    def uniform(self, low: float, high: float) -> float:
        """Draw one number as a plain float, which leaves single precision arrays single."""
        return float(self.rng.uniform(low, high))

    def blank(self, colour: Floats) -> Floats:
        """Make an image of one colour of shape (3,)."""
        image = np.empty((3, self.height, self.width), np.float32)
        image[:] = colour.reshape(3, 1, 1)
        return image


def bands(rows: int) -> Iterator[slice]:
    """Cut rows into bands small enough that what is computed on one stays in the processor's cache."""
    for top in range(0, rows, _BAND):
        yield slice(top, min(top + _BAND, rows))


def clamp(values: Floats) -> Floats:
    """Clip to the range from 0 to 1."""
    return np.clip(values, 0.0, 1.0)


def smoothstep(low: float, high: float, values: Floats) -> Floats:
    """Rise smoothly from 0 at low to 1 at high; with low above high it falls."""
    t = clamp((values - low) / (high - low))
    return t * t * (3.0 - 2.0 * t)


def look_up(colours: Floats, places: Floats) -> Floats:
    """Colour a field of places from 0 to 1 by a table of shape (3, count).

    Returns:
        An array of shape (3, *places.shape).
    """
    last = colours.shape[1] - 1
    index = np.clip(places * last, 0, last).astype(np.intp)
    image: Floats = np.empty((3, *places.shape), np.float32)
    for plane, channel in zip(image, colours, strict=True):
        # Without a mode, take would check the index again and buffer its result.
        np.take(channel, index, out=plane, mode="clip")
    return image


def ramp(palette: Palette, places: Floats) -> Floats:
    """Colour a field of places by the palette, from 0 (dark) to 1 (light)."""
    if palette.ramp.shape[1] != TABLE_SIZE:
        raise ValueError(f"a ramp has {TABLE_SIZE} entries")
    return look_up(palette.ramp, places)


def over(image: Floats, colour: Floats | list[Floats], alpha: Floats) -> None:
    """Lay a colour over an image in place.

    Args:
        image: Of shape (3, rows, columns); may be a view of a part.
        colour: Of shape (3,), or anything that broadcasts plane by plane.
        alpha: Opacity from 0 to 1, of shape (rows, columns) or broadcasting to it.
    """
    for plane, shade in zip(image, colour, strict=True):
        plane[...] += (shade - plane) * alpha


def glow(image: Floats, colour: Floats, amount: Floats) -> None:
    """Shine a colour of shape (3,) onto an image in place, as light that never burns out."""
    for plane, shade in zip(image, colour, strict=True):
        plane[...] += (1.0 - plane) * (amount * shade)


def shapes(size: tuple[int, int], draw: Callable[[ImageDraw.ImageDraw, float], None]) -> Floats:
    """Rasterise shapes with smooth edges.

    Args:
        size: Rows and columns of the mask in pixels.
        draw: Fills with 255 what belongs to the shape; is told how many samples a pixel has per side.

    Returns:
        Coverage from 0 to 1, of shape size.
    """
    rows, columns = size
    samples = 2 if min(rows, columns) > _FINE else 3
    mask = Image.new("L", (columns * samples, rows * samples), 0)
    draw(ImageDraw.Draw(mask), float(samples))
    return np.asarray(mask.reduce(samples), np.float32) / np.float32(255)
