"""Mountain ridges that fade into mist before a low sun."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from app.media_generator.dummy_media_generator.painters.noise import noise, profile
from app.media_generator.dummy_media_generator.painters.scene import Scene, clamp, over, shapes, smoothstep
from app.media_generator.dummy_media_generator.painters.sky import clouds, distance, firs, sky, sun
from app.media_generator.dummy_media_generator.palettes import Floats, mix

_LAYERS: Final = 7


if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw


def paint_ridges(scene: Scene) -> Floats:
    """Paint layers of mountains from far and pale to near and dark."""
    palette = scene.palette
    image = sky(scene, scene.uniform(0.38, 0.5), 0.93, 0.62)
    centre = (scene.across * scene.uniform(0.25, 0.75), scene.down * scene.uniform(0.24, 0.36))
    clouds(scene, image, 0.55, palette.shade(0.97), 0.55)
    sun(scene, image, centre, scene.uniform(0.055, 0.095))
    scene.report(0.25)
    warmth = np.exp(-((distance(scene, centre) / 0.55) ** 2))
    rock = noise(scene, 5.0, 5, 0.6)
    for layer in range(_LAYERS):
        _ridge(scene, image, layer / (_LAYERS - 1), (rock, warmth))
        scene.report(0.3 + 0.6 * layer / _LAYERS)
    _wood(scene, image)
    return image


def _ridge(scene: Scene, image: Floats, near: float, fields: tuple[Floats, Floats]) -> None:
    """Lay one ridge over what is behind it; near goes from 0 at the horizon to 1 in front."""
    rock, warmth = fields
    palette = scene.palette
    tall = min(scene.down, 1.7)
    base = scene.down * (0.46 + 0.43 * near**0.9)
    line = profile(scene, scene.x, 1.6 + 1.2 * (1 - near), 7, 0.48)
    crest = base - tall * (0.055 + 0.05 * (1 - near)) * (1.1 - 2.2 * np.abs(line) ** 1.15)
    first = max(0, int(crest.min() * scene.unit) - 2)
    if first >= scene.height:
        return
    depth = scene.y[first:] - crest
    haze = palette.shade(0.88)
    body = palette.shade(0.74 - 0.66 * near**0.75)
    mist = (0.75 - 0.45 * near) * smoothstep(0.0, 0.3 * tall, depth + 0.05 * rock[first:])
    relief = 1.0 + (0.10 + 0.10 * near) * rock[first:] * smoothstep(0.0, 0.03, depth)
    light = mix(palette.light, haze, 0.5)
    cover = clamp(depth * scene.unit + 0.5)
    shine = warmth[first:] * (0.42 * (1 - near))
    for plane, dark, pale, bright in zip(image, body, haze, light, strict=True):
        colour = dark * relief
        colour += (pale - colour) * mist
        colour += (bright - colour) * shine
        part = plane[first:]
        part[...] += (colour - part) * cover


def _wood(scene: Scene, image: Floats) -> None:
    """Stand a dark slope with firs at the lower edge."""
    tall = min(scene.down, 1.7)
    count = int(26 * scene.across)
    centres = scene.rng.uniform(-0.05, scene.across + 0.05, count)
    slope = scene.down - 0.075 * tall + 0.07 * tall * profile(scene, np.append(centres, scene.x), 0.9, 2)
    heights = tall * scene.rng.uniform(0.05, 0.15, count)
    outlines = firs(scene, centres, slope[:count] + 0.02, heights)
    first = max(0, scene.height - int(0.42 * tall * scene.unit))
    ground = slope[count:]

    def draw(pen: ImageDraw, samples: float) -> None:
        scale = samples * scene.unit
        for outline in outlines:
            pen.polygon([(x * scale, y * scale - first * samples) for x, y in outline], fill=255)

    trees = shapes((scene.height - first, scene.width), draw)
    np.maximum(trees, clamp((scene.y[first:] - ground) * scene.unit + 0.5), out=trees)
    over(image[:, first:], mix(scene.palette.shade(0.02), scene.palette.ink, 0.5), trees)
