"""What painters of landscapes share: skies, suns, stars and firs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from app.media_generator.dummy_media_generator.painters.noise import noise
from app.media_generator.dummy_media_generator.painters.scene import (
    Scene,
    clamp,
    glow,
    over,
    ramp,
    smoothstep,
)

if TYPE_CHECKING:
    from app.media_generator.dummy_media_generator.palettes import Floats


_DOT: Final = 0.45
"""Deviation in pixels of the smallest light that a pixel grid can show steadily."""


def sky(scene: Scene, top: float, bottom: float, horizon: float) -> Floats:
    """Paint a sky over the whole picture.

    Args:
        scene: The picture.
        top: Place on the palette's ramp at the upper edge.
        bottom: Place on the ramp at the horizon.
        horizon: Share of the height at which the sky ends.
    """
    t = clamp(scene.y[:, 0] / (scene.down * horizon)) ** 1.25
    image = np.empty((3, scene.height, scene.width), np.float32)
    image[:] = ramp(scene.palette, top + (bottom - top) * t)[:, :, None]
    return image


def distance(scene: Scene, centre: tuple[float, float]) -> Floats:
    """Measure from a centre (x, y) in units, giving an array of shape (height, width) in units."""
    away: Floats = np.hypot(scene.x - np.float32(centre[0]), scene.y - np.float32(centre[1]))
    return away


def sun(scene: Scene, image: Floats, centre: tuple[float, float], radius: float, halo: float = 0.5) -> None:
    """Put a shining disc into the sky.

    Args:
        scene: The picture.
        image: Painted upon.
        centre: Of the disc, as (x, y) in units.
        radius: Of the disc, in units.
        halo: Strength of the light around it, from 0 to 1.
    """
    away = distance(scene, centre)
    light = scene.palette.light
    glow(image, light, halo * np.exp(-away / (radius * 4.5)) + 0.35 * halo * np.exp(-away / (radius * 1.2)))
    over(image, light, clamp((radius - away) * scene.unit + 0.5))


def moon(scene: Scene, image: Floats, centre: tuple[float, float], radius: float) -> None:
    """Put a moon with its grey seas into the sky, with centre (x, y) and radius in units."""
    sun(scene, image, centre, radius, 0.3)
    top, bottom, left, right = (
        round(value * scene.unit)
        for value in (centre[1] - radius, centre[1] + radius, centre[0] - radius, centre[0] + radius)
    )
    part = (slice(max(top, 0), max(bottom, 1)), slice(max(left, 0), max(right, 1)))
    seas = smoothstep(0.0, 0.9, noise(scene, 4.5 / max(radius * 6, 0.2), 3)[part])
    inside = clamp((radius * 0.97 - distance(scene, centre)[part]) * scene.unit)
    over(image[:, part[0], part[1]], scene.palette.shade(0.62), seas * inside * 0.28)


def clouds(scene: Scene, image: Floats, horizon: float, colour: Floats, strength: float) -> None:
    """Draw long thin clouds above a horizon.

    Args:
        scene: The picture.
        image: Painted upon.
        horizon: Share of the height.
        colour: Of shape (3,).
        strength: Greatest opacity, from 0 to 1.
    """
    field = noise(scene, 5.0, 4, 0.5, 5.0)
    height = scene.y / (scene.down * horizon)
    band = smoothstep(0.0, 0.55, height) * smoothstep(1.05, 0.8, height)
    over(image, colour, smoothstep(-0.05, 0.9, field) * band * strength)


def stars(scene: Scene, image: Floats, density: float, floor: float = 1.0) -> None:
    """Scatter stars of many sizes.

    Args:
        scene: The picture.
        image: Painted upon.
        density: Stars per square unit.
        floor: Share of the height below which there are none; they grow sparse towards it.
    """
    count = int(density * min(scene.across * scene.down, 4.0))
    places = scene.rng.random((count, 4))
    above = places[:, 1] ** (1.0 if floor >= 1 else 1.4) * floor
    tint = 1 - 0.4 * places[:, 2:3] * (1 - scene.palette.light)
    for (across, _, _, luck), down, colour in zip(places, above, tint, strict=True):
        size = 0.0009 + 0.0016 * float(luck) ** 14
        strength = 0.18 + 0.75 * float(luck) ** 5
        spot(scene, image, (float(across) * scene.across, float(down) * scene.down), size, colour * strength)


def spot(scene: Scene, image: Floats, centre: tuple[float, float], size: float, colour: Floats) -> None:
    """Add one small round light with a soft edge.

    Args:
        scene: The picture.
        image: Painted upon.
        centre: As (x, y) in units.
        size: Of the bell curve, in units; never less than what a pixel can show.
        colour: Of shape (3,), already scaled by the strength.
    """
    sigma = max(size * scene.unit, _DOT)
    # What is smaller than a pixel is as large as one, but fainter.
    colour = colour * min(1.0, size * scene.unit / _DOT)
    reach = int(3 * sigma) + 1
    x, y = centre[0] * scene.unit, centre[1] * scene.unit
    left, top = max(int(x) - reach, 0), max(int(y) - reach, 0)
    right, bottom = min(int(x) + reach + 1, scene.width), min(int(y) + reach + 1, scene.height)
    if right <= left or bottom <= top:
        return
    across = np.exp(-(((np.arange(left, right) + 0.5 - x) / sigma) ** 2) / 2)
    along = np.exp(-(((np.arange(top, bottom) + 0.5 - y) / sigma) ** 2) / 2)
    bell = np.outer(along, across).astype(np.float32)
    glow(image[:, top:bottom, left:right], colour.astype(np.float32), bell)


def firs(scene: Scene, centres: Floats, feet: Floats, heights: Floats) -> list[list[tuple[float, float]]]:
    """Outline firs as polygons in units.

    Args:
        scene: Gives chance.
        centres: Horizontal places of the trunks, in units.
        feet: Vertical places of the lowest branches, in units.
        heights: In units.
    """
    outlines: list[list[tuple[float, float]]] = []
    for centre, foot, height in zip(centres.tolist(), feet.tolist(), heights.tolist(), strict=True):
        tiers = 11
        jitter = scene.rng.uniform(0.75, 1.2, (2, tiers))
        half = height * 0.19
        sides: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
        for tier in range(1, tiers + 1):
            level = foot - height * (1 - tier / tiers)
            for side, sign in ((0, -1), (1, 1)):
                reach = half * (tier / tiers) ** 0.9 * float(jitter[side, tier - 1])
                sides[side].append((centre + sign * reach, level + reach * 0.25))
                sides[side].append((centre + sign * reach * 0.5, level - height * 0.012))
        outlines.append([(centre, foot - height), *sides[1], (centre, foot + 0.08 * height), *reversed(sides[0])])
    return outlines
