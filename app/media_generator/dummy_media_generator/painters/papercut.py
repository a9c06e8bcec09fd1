"""Sheets of coloured paper with cut-out shapes, stacked so that each casts a shadow on the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageFilter

from app.media_generator.dummy_media_generator.painters.noise import noise, resize
from app.media_generator.dummy_media_generator.painters.scene import Scene, bands, clamp, over, smoothstep

if TYPE_CHECKING:
    from app.media_generator.dummy_media_generator.palettes import Floats

_SHEETS: Final = 8
_SHADOW: Final = 256
"""Short side at which shadows are blurred, in pixels."""


def paint_papercut(scene: Scene) -> Floats:
    """Lay sheets from the deepest, which glows, to the one in front."""
    palette = scene.palette
    field = _field(scene)
    steep = _steepness(field)
    share = min(1.0, _SHADOW / scene.unit)
    small = resize(field, (max(1, round(scene.height * share)), max(1, round(scene.width * share))))
    fibre = noise(scene, 70.0, 2, 0.9)
    image = scene.blank(palette.shade(0.97))
    glow_at = np.hypot(scene.x - scene.across / 2, scene.y - scene.down / 2)
    over(image, palette.light, np.exp(-((glow_at / 0.35) ** 2)).astype(np.float32))
    # Quantiles give every sheet its share of the picture, whatever the noise was.
    levels = np.quantile(field[::4, ::4], np.linspace(0.07, 0.86, _SHEETS))
    scene.report(0.3)
    for sheet, level in enumerate(levels.tolist()):
        near = sheet / (_SHEETS - 1)
        height = field - np.float32(level)
        shadow = resize(_shadow(small, level), field.shape)
        colour = palette.shade(0.86 - 0.74 * near)
        for rows in bands(scene.height):
            over(image[:, rows], palette.shade(0.02) * 0.6, clamp(shadow[rows]) * 0.5)
            lit = 1.0 + 0.022 * fibre[rows] + 0.10 * smoothstep(0.03, 0.0, height[rows])
            paper = [shade * lit for shade in colour]
            over(image[:, rows], paper, clamp(height[rows] / steep[rows] + 0.5))
        scene.report(0.35 + 0.6 * near)
    return image


def _field(scene: Scene) -> Floats:
    """Make the landscape whose contour lines are cut: an opening in the middle, billows around it."""
    billow = np.abs(noise(scene, 1.7, 2, 0.35))
    slow = noise(scene, 1.1, 2, 0.4)
    x = (scene.x - scene.across / 2) / max(scene.across, 1.0)
    y = (scene.y - scene.down / 2) / max(scene.down, 1.0)
    bowl = np.hypot(x, y).astype(np.float32)
    return np.asarray(1.75 * bowl + 0.5 * slow - 0.45 * billow, np.float32)


def _steepness(field: Floats) -> Floats:
    """Say by how much the field changes from pixel to pixel, never 0."""
    slope = np.full(field.shape, 1e-5, np.float32)
    slope[:, 1:] += np.abs(np.diff(field, axis=1))
    slope[1:] += np.abs(np.diff(field, axis=0))
    return slope


def _shadow(field: Floats, level: float) -> Floats:
    """Blur and move the outline of a sheet, to fall on what is below and to the right of its edge."""
    rows, columns = field.shape
    unit = min(rows, columns)
    mask = clamp((field - np.float32(level)) / _steepness(field) + 0.5) * 255
    blurred = Image.fromarray(mask.astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.02 * unit))
    move = round(0.018 * unit)
    shifted = np.pad(np.asarray(blurred, np.float32), ((move, 0), (move, 0)), mode="edge")
    return shifted[:rows, :columns] / np.float32(255)
