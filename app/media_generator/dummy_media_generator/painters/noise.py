"""Smooth random fields: what clouds, ridges and currents are made of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from app.media_generator.dummy_media_generator.painters.scene import Scene
    from app.media_generator.dummy_media_generator.palettes import Floats

_MARGIN: Final = 2
"""Cells around the picture, so that the bicubic filter never meets an edge."""

_PIXELS_PER_CELL: Final = 5.0
"""Below this many pixels a cell of noise loses its shape; above it, pixels are wasted on smoothness."""


def resize(field: Floats, size: tuple[int, int]) -> Floats:
    """Scale a field smoothly to a size of (rows, columns)."""
    if field.shape == size:
        return field
    source = Image.fromarray(np.ascontiguousarray(field, np.float32))
    return np.asarray(source.resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _octave(rng: np.random.Generator, size: tuple[int, int], cells: tuple[float, float]) -> Floats:
    """Spread random numbers of a lattice of cells (down, across) smoothly over size (rows, columns)."""
    shape = (math.ceil(cells[0]) + 2 * _MARGIN, math.ceil(cells[1]) + 2 * _MARGIN)
    lattice = rng.uniform(-1.0, 1.0, shape).astype(np.float32)
    box = (_MARGIN, _MARGIN, _MARGIN + cells[1], _MARGIN + cells[0])
    scaled = Image.fromarray(lattice).resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box)
    return np.asarray(scaled)


def noise(scene: Scene, cells: float, octaves: int = 4, gain: float = 0.5, stretch: float = 1.0) -> Floats:
    """Make fractal noise over the whole picture.

    Args:
        scene: Gives size and chance.
        cells: Lattice cells of the first octave per short side.
        octaves: Each doubles the cells of the one before.
        gain: Strength of an octave in relation to the one before.
        stretch: How many times longer across than high the features are.

    Returns:
        Values mostly between -1 and 1, with mean near 0, of shape (height, width).
    """
    finest = cells * 2 ** (octaves - 1) * _PIXELS_PER_CELL
    share = min(1.0, finest / scene.unit)
    # What is smooth is computed small and scaled up once.
    size = (max(8, round(scene.height * share)), max(8, round(scene.width * share)))
    total = np.zeros(size, np.float32)
    weight, weights = 1.0, 0.0
    for octave in range(octaves):
        scale = cells * 2.0**octave
        lattice = (scale * scene.down, max(1.0, scale * scene.across / stretch))
        total += _octave(scene.rng, size, lattice) * weight
        weights += weight * weight
        weight *= gain
    return resize(total * (1.5 / math.sqrt(weights)), (scene.height, scene.width))


def profile(scene: Scene, places: Floats, cells: float, octaves: int = 5, gain: float = 0.5) -> Floats:
    """Make fractal noise along a line.

    Args:
        scene: Gives chance and how long the line may be.
        places: Where to sample it, in units of the short side; also a little outside the picture.
        cells: Lattice cells of the first octave per unit.
        octaves: Each doubles the cells of the one before.
        gain: Strength of an octave in relation to the one before.

    Returns:
        Values mostly between -1 and 1, of the shape of places.
    """
    total = np.zeros_like(places)
    weight, weights = 1.0, 0.0
    for octave in range(octaves):
        scale = cells * 2.0**octave
        knots = math.ceil(scale * (max(scene.across, scene.down) + 2)) + 4
        values = np.asarray(scene.rng.uniform(-1.0, 1.0, knots), np.float32)
        at = np.clip((places + 1.0) * scale, 0, knots - 2.001)
        cell = at.astype(np.intp)
        t = at - cell
        t = t * t * (3.0 - 2.0 * t)
        total += (values[cell] * (1.0 - t) + values[cell + 1] * t) * weight
        weights += weight * weight
        weight *= gain
    return (total * (1.5 / math.sqrt(weights))).astype(np.float32)


def warp(field: Floats, right: Floats, below: Floats) -> Floats:
    """Sample a field away from each pixel, by bilinear interpolation; it is mirrored at its edges.

    Args:
        field: Of shape (rows, columns).
        right: How far to the right to look, in pixels, of the same shape.
        below: How far below to look, in pixels, of the same shape.
    """
    rows, columns = field.shape
    x = _mirror(np.arange(columns, dtype=np.float32) + right, columns)
    y = _mirror(np.arange(rows, dtype=np.float32)[:, None] + below, rows)
    left, top = x.astype(np.intp), y.astype(np.intp)
    x -= left
    y -= top
    flat = field.ravel()
    index = top * columns + left
    upper = flat[index] * (1.0 - x) + flat[index + 1] * x
    index += columns
    lower = flat[index] * (1.0 - x) + flat[index + 1] * x
    return np.asarray(upper + (lower - upper) * y, np.float32)


def _mirror(places: Floats, size: int) -> Floats:
    """Fold places outside back in, to between 0 and just below size - 1."""
    span = size - 1.001
    return np.asarray(span - np.abs(np.abs(places) % (2 * span) - span), np.float32)
