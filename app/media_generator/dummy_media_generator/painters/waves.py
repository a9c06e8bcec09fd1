"""The open sea under a low sun or moon, with a path of light on the water."""

from __future__ import annotations

from typing import Final

import numpy as np

from app.media_generator.dummy_media_generator.painters.scene import (
    Scene,
    clamp,
    glow,
    over,
    ramp,
    smoothstep,
)
from app.media_generator.dummy_media_generator.painters.sky import clouds, moon, sky, stars, sun
from app.media_generator.dummy_media_generator.palettes import Floats, mix

_TILE: Final = 512
"""Side of the periodic patch of sea, in samples."""

_HORIZON: Final = 0.46

_MIDNIGHT: Final = 0.3
"""Below this mean brightness of the palette's middle the sky is one of night."""


def paint_waves(scene: Scene) -> Floats:
    """Paint sky and water that meet at a clear horizon."""
    palette = scene.palette
    night = float(palette.shade(0.45).mean()) < _MIDNIGHT or palette.name in {"night", "lagoon"}
    image = sky(scene, 0.04, 0.62, _HORIZON) if night else sky(scene, 0.34, 0.84, _HORIZON)
    height = 0.17 if night else 0.07
    size = scene.uniform(0.06, 0.08) if night else scene.uniform(0.085, 0.12)
    centre = (scene.across * scene.uniform(0.3, 0.7), scene.down * _HORIZON - height * min(scene.down, 1.4))
    if night:
        stars(scene, image, 200.0, _HORIZON)
        moon(scene, image, centre, size)
    else:
        sun(scene, image, centre, size)
    clouds(scene, image, _HORIZON, palette.shade(0.5 if night else 0.99), 0.35 if night else 0.6)
    scene.report(0.35)
    _water(scene, image, centre[0], night=night)
    return image


def _patch(scene: Scene) -> Floats:
    """Make a periodic surface of waves that run mostly towards the viewer, with unit deviation."""
    frequency = np.fft.fftfreq(_TILE, 1 / _TILE)
    across, along = np.meshgrid(frequency[: _TILE // 2 + 1], frequency)
    number = np.hypot(across, along)
    number[0, 0] = 1.0
    spectrum = number**-1.55 * np.exp(-((8.0 / number) ** 2)) * np.exp(-((number / 120.0) ** 2))
    spectrum *= np.abs(along / number) ** 1.2
    white = np.fft.rfft2(scene.rng.standard_normal((_TILE, _TILE)))
    surface = np.fft.irfft2(white * spectrum, s=(_TILE, _TILE))
    return np.asarray(surface / surface.std(), np.float32)


def _sample(patch: Floats, across: Floats, along: Floats) -> Floats:
    """Look up the periodic patch bilinearly at places in samples."""
    left, top = np.floor(across), np.floor(along)
    x, y = across - left, along - top
    row = (top.astype(np.int32) % _TILE) * _TILE
    below = (row + _TILE) % (_TILE * _TILE)
    column = left.astype(np.int32) % _TILE
    right = (column + 1) % _TILE
    flat = patch.ravel()
    upper = np.take(flat, row + column)
    upper += (np.take(flat, row + right) - upper) * x
    lower = np.take(flat, below + column)
    lower += (np.take(flat, below + right) - lower) * x
    return np.asarray(upper + (lower - upper) * y, np.float32)


def _water(scene: Scene, image: Floats, light_at: float, *, night: bool) -> None:
    """Paint the sea in perspective, with the light's place across given in units."""
    first = round(scene.height * _HORIZON)
    p = (scene.y[first:] - scene.down * _HORIZON) / (scene.down * (1 - _HORIZON))
    p = np.maximum(p, 0.0).astype(np.float32)
    far = 1.0 / (p + 0.035)
    x = (scene.x - np.float32(light_at)).astype(np.float32)
    patch = _patch(scene)
    scene.report(0.45)
    swell = 0.72 * _sample(patch, x * far * 75.0 + 900.0, far * 110.0 + np.zeros_like(x))
    swell += 0.62 * _sample(patch, x * far * 210.0 + 77.0, far * 260.0 + 0.1 * x)
    scene.report(0.65)
    # Where waves are smaller than a pixel only their mean remains.
    swell *= smoothstep(0.0, 0.14, p) * 0.75 + 0.25 * smoothstep(0.0, 0.02, p)
    low, high = (0.08, 0.5) if night else (0.14, 0.74)
    shade = high - (high - low) * p**0.5 + 0.085 * swell * (0.4 + p)
    water = ramp(scene.palette, clamp(shade))
    scene.report(0.8)
    spread = 0.045 + 0.2 * p + 0.05 * p * swell
    path = np.exp(-((x / spread) ** 2))
    glitter = smoothstep(0.15, 1.5, swell + 1.1 * path - 0.35)
    light = mix(scene.palette.light, scene.palette.shade(0.9), 0.25)
    glow(water, light, clamp(path * (0.16 + 0.95 * glitter)))
    glow(water, scene.palette.shade(0.85), 0.22 * smoothstep(1.1, 2.6, swell) * p)
    image[:, first:] = water
    rim = np.exp(-np.abs(scene.y * scene.unit - first) / (0.006 * scene.unit))
    over(
        image,
        scene.palette.shade(0.7 if night else 0.92),
        rim * 0.4 * np.exp(-np.abs(scene.x - light_at) / 0.5),
    )
