"""Curtains of northern lights above a wood of firs, mirrored in a lake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from app.media_generator.dummy_media_generator.painters.noise import noise, profile, resize
from app.media_generator.dummy_media_generator.painters.scene import (
    Scene,
    clamp,
    glow,
    over,
    shapes,
    smoothstep,
)
from app.media_generator.dummy_media_generator.painters.sky import firs, sky, stars
from app.media_generator.dummy_media_generator.palettes import Floats, mix, parse

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

_SHORE: Final = 0.8
"""Where the lake begins, as a share of the height."""

_CURTAINS: Final = 3

_GLOW: Final = {
    "": ("34e89a", "8a4ce6"),
    "ocean": ("3be0d0", "3f6ff0"),
    "neon": ("22d8f5", "f2229c"),
    "blossom": ("f77fb2", "7f5cf0"),
    "fire": ("ffb03a", "e0245e"),
    "sunset": ("ff9a5a", "c23a9a"),
    "arctic": ("6fe3e0", "7a8cf5"),
    "mono": ("e6ebee", "8d98a4"),
}
"""Colours of the seam and of the fringe for palettes that would not have the usual green and violet."""


def paint_aurora(scene: Scene) -> Floats:
    """Paint the sky, the lights, the far shore and its reflection."""
    image = sky(scene, 0.0, 0.27, _SHORE)
    image *= 0.8
    stars(scene, image, 330.0, _SHORE)
    scene.report(0.2)
    for colour, light in zip(_colours(scene), _lights(scene), strict=True):
        glow(image, colour, resize(light, (scene.height, scene.width)))
    scene.report(0.6)
    _hills(scene, image)
    _shore(scene, image)
    scene.report(0.75)
    _lake(scene, image)
    return image


def _colours(scene: Scene) -> list[Floats]:
    """Choose the colours of the lower seam, the middle and the upper fringe."""
    palette = scene.palette
    low, high = (parse(code)[0] for code in _GLOW.get(palette.name, _GLOW[""]))
    return [mix(low, palette.light, 0.3), low, high]


def _lights(scene: Scene) -> list[Floats]:
    """Let folded bands of light bleed upwards, once shortly, once further, once high up.

    Returns:
        Three fields from 0 to 1 at a lower resolution.
    """
    wide = max(32, min(scene.width, round(420 * scene.across), 2048))
    high = max(32, min(scene.height, round(300 * scene.down), 1600))
    bands = np.zeros(high * wide, np.float64)
    tall = min(scene.down, 1.5)
    for curtain in range(_CURTAINS):
        count = 10 * wide
        t = np.linspace(-0.3, scene.across + 0.3, count, dtype=np.float32)
        fold = 0.24 * profile(scene, t, 1.7, 2)
        comb = profile(scene, t, 10.0, 4, 0.75)
        rays = 0.12 + 1.3 * clamp(0.5 + 0.55 * comb) ** 2
        rays *= 0.08 + 0.92 * smoothstep(-0.5, 0.6, profile(scene, t, 1.3, 2))
        base = scene.down * (0.37 + 0.12 * curtain) + tall * (0.15 * profile(scene, t, 1.2, 3, 0.4) + 0.016 * comb)
        column = ((t + fold) / scene.across * wide).astype(np.intp)
        row = (base / scene.down * high).astype(np.intp)
        inside = (column >= 0) & (column < wide) & (row >= 0) & (row < high)
        power = rays * (0.7 + 0.3 * curtain / _CURTAINS) * 0.1
        bands += np.bincount(row[inside] * wide + column[inside], power[inside], high * wide)
    return _bleed(scene, bands.reshape(high, wide).astype(np.float32), tall * high / scene.down)


def _bleed(scene: Scene, bands: Floats, reach: float) -> list[Floats]:
    """Run the bands upwards, row by row, with three lengths of decay in proportion to the reach."""
    decays = np.exp(-1 / (np.array([[0.03], [0.1], [0.22]]) * reach)).astype(np.float32)
    sums = np.zeros((3, bands.shape[1]), np.float32)
    light = np.empty((3, *bands.shape), np.float32)
    for row in range(bands.shape[0] - 1, -1, -1):
        sums *= decays
        sums += bands[row]
        light[:, row] = sums
    soft = 0.75 + 0.35 * resize(noise(scene, 2.0, 3), bands.shape)
    strength = np.array([1.6, 5.0, 2.2], np.float32)
    seam, body, fringe = (
        1 - np.exp(-field * power * soft) for field, power in zip(_smooth(light), strength, strict=True)
    )
    # Green and violet in one place would make grey, so the fringe shows only where the body fades.
    return [seam, body, fringe * (1 - body)]


def _smooth(light: Floats) -> Floats:
    """Soften the lower seam of the curtains, which begins in one row."""
    for _ in range(5):
        light[:, 1:-1] = 0.25 * light[:, :-2] + 0.5 * light[:, 1:-1] + 0.25 * light[:, 2:]
        light[:, :, 1:-1] = 0.2 * light[:, :, :-2] + 0.6 * light[:, :, 1:-1] + 0.2 * light[:, :, 2:]
    return light


def _hills(scene: Scene, image: Floats) -> None:
    """Lay two far hills before the sky."""
    tall = min(scene.down, 1.5)
    for step, shade in ((0.075, 0.17), (0.03, 0.1)):
        crest = scene.down * _SHORE - tall * (step + 0.045 * profile(scene, scene.x, 1.8, 5))
        over(image, scene.palette.shade(shade), clamp((scene.y - crest) * scene.unit + 0.5))


def _shore(scene: Scene, image: Floats) -> None:
    """Stand firs along the shore."""
    tall = min(scene.down, 1.5)
    count = int(46 * scene.across)
    centres = scene.rng.uniform(-0.05, scene.across + 0.05, count)
    clump = clamp(0.5 + 0.8 * profile(scene, centres, 2.2, 2))
    heights = tall * (0.03 + 0.15 * clump * scene.rng.uniform(0.5, 1.0, count))
    outlines = firs(scene, centres, np.full(count, scene.down * _SHORE), heights)
    shore = int(scene.height * _SHORE)
    first = max(0, shore - int(0.25 * tall * scene.unit))

    def draw(pen: ImageDraw, samples: float) -> None:
        scale = samples * scene.unit
        for outline in outlines:
            pen.polygon([(x * scale, y * scale - first * samples) for x, y in outline], fill=255)

    trees = shapes((shore - first, scene.width), draw)
    over(image[:, first:shore], scene.palette.shade(0.015) * 0.6, trees)


def _lake(scene: Scene, image: Floats) -> None:
    """Mirror what stands above the shore, drawn out and rippled."""
    shore = int(scene.height * _SHORE)
    rows = np.arange(scene.height - shore)
    depth = rows / max(len(rows) - 1, 1)
    sway = noise(scene, 12.0, 3, 0.6, 7.0)[shore:] * (0.022 * scene.unit * depth[:, None] ** 0.6)
    source = np.clip(shore - 1 - rows[:, None] * 1.9 - sway * 1.6, 0, shore - 1).astype(np.intp)
    column = np.clip(np.arange(scene.width) + sway * 0.5, 0, scene.width - 1).astype(np.intp)
    index = source * scene.width + column
    fade = (0.72 - 0.32 * depth)[:, None].astype(np.float32)
    deep = scene.palette.shade(0.03)
    for plane, dark in zip(image, deep, strict=True):
        mirrored = np.take(plane.ravel(), index)
        plane[shore:] = dark + (mirrored - dark) * fade
    rim = np.exp(-np.abs(scene.y * scene.unit - shore) / (0.0035 * scene.unit))
    over(image, scene.palette.shade(0.45), rim * 0.35)
