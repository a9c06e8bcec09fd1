"""Dahlias seen from above, ring upon ring of petals, over blurred leaves."""

from __future__ import annotations

from typing import Final

import numpy as np

from app.media_generator.dummy_media_generator.painters.noise import noise
from app.media_generator.dummy_media_generator.painters.scene import (
    Scene,
    bands,
    clamp,
    look_up,
    over,
    ramp,
    smoothstep,
)
from app.media_generator.dummy_media_generator.painters.sky import spot
from app.media_generator.dummy_media_generator.palettes import Floats, mix, table

_RINGS: Final = 11
_STAMENS: Final = 55
_GOLDEN: Final = 2.399963
"""The angle by which nature turns from one seed to the next, in radians."""

_TINY: Final = 16
"""Radius in pixels of flowers that show no stamens."""

_REACH: Final = 1.22
"""How far the shadow of a ring of petals falls, in radii of the ring."""


def paint_bloom(scene: Scene) -> Floats:
    """Paint a few flowers behind, and a large one in front."""
    palette = scene.palette
    ground = noise(scene, 1.3, 3)
    image = ramp(palette, clamp(0.12 + 0.11 * ground))
    over(image, mix(palette.accents[4], palette.ink, 0.35), smoothstep(-0.2, 1.0, noise(scene, 1.8, 2)) * 0.75)
    scene.report(0.1)
    flowers = _flowers(scene)
    for index, (centre, radius) in enumerate(flowers):
        hue = 0 if index == len(flowers) - 1 else 1 + index % 3
        _flower(scene, image, (*centre, radius), _petal_colours(scene, hue))
        scene.report(0.15 + 0.75 * (index + 1) / len(flowers))
    return image


def _flowers(scene: Scene) -> list[tuple[tuple[float, float], float]]:
    """Say where the flowers are and how large, in units, the foremost last."""
    area = scene.across * scene.down
    main = (scene.across * scene.uniform(0.42, 0.58), scene.down * scene.uniform(0.42, 0.58))
    found: list[tuple[tuple[float, float], float]] = [(main, 0.4)]
    for draw in scene.rng.random((int(60 * min(area, 4.0)), 3)).tolist():
        centre = (draw[0] * scene.across, draw[1] * scene.down)
        radius = 0.1 + 0.16 * draw[2]
        apart = min(np.hypot(centre[0] - c[0], centre[1] - c[1]) - r for c, r in found)
        if apart > radius * 0.62:
            found.append((centre, radius))
    return found[::-1]


def _petal_colours(scene: Scene, hue: int) -> Floats:
    """Blend the colours of a petal from the shadow at its base to its bright rim."""
    palette = scene.palette
    accent = palette.accents[hue]
    deep = mix(accent, palette.shade(0.08), 0.72)
    return table(np.stack([deep, mix(accent, deep, 0.3), accent, mix(accent, palette.light, 0.62)]))


def _flower(scene: Scene, image: Floats, place: tuple[float, float, float], colours: Floats) -> None:
    """Lay rings of petals over each other, from the outermost to the heart; place is x, y, radius."""
    across, down, radius = place
    form = (radius, scene.uniform(0, 1))
    columns = _near(scene.x - np.float32(across), radius * _REACH)
    for rows in bands(scene.height):
        y = scene.y[rows] - np.float32(down)
        if columns and _near(y[:, 0], radius * _REACH):
            offsets = scene.x[columns] - np.float32(across), y
            _rings(image[:, rows, columns], offsets, form, (scene.unit, colours))
    for seed in range(_STAMENS if radius * scene.unit > _TINY else 0):
        turn, off = seed * _GOLDEN, radius * 0.085 * float(np.sqrt(seed / _STAMENS))
        centre = (across + off * float(np.cos(turn)), down + off * float(np.sin(turn)))
        spot(
            scene,
            image,
            centre,
            radius * 0.006,
            mix(scene.palette.light, scene.palette.accents[2], 0.5) * 0.8,
        )


def _rings(patch: Floats, offsets: tuple[Floats, Floats], form: tuple[float, float], look: tuple[int, Floats]) -> None:
    """Lay the rings over one band of the picture.

    Args:
        patch: The band, painted upon.
        offsets: Places (x, y) of its columns and rows from the flower's centre, in units.
        form: Radius of the flower in units, and by which share of a full turn it is turned.
        look: Pixels of a unit, and the colours of a petal.
    """
    (x, y), (radius, turn), (unit, colours) = offsets, form, look
    count = 13 if radius > 0.3 else 11  # noqa: PLR2004 - the large flower has more petals
    away, angle = np.hypot(x, y), np.arctan2(y, x) * np.float32(0.5 / np.pi)
    for ring in range(_RINGS):
        size = radius * (1 - ring / (_RINGS + 0.6)) ** 1.08
        columns, rows = _near(x, size * _REACH), _near(y[:, 0], size * _REACH)
        if columns is None or rows is None:
            return
        wave = np.float32(turn + 0.5 / count * (ring % 2) + 0.004 * ring)
        petals = (angle[rows, columns] - wave) * count
        shade, cover, shadow = _petals(away[rows, columns] / np.float32(size), petals, size * unit)
        over(patch[:, rows, columns], colours[:, 0] * 0.55, shadow)
        tones = clamp(shade + 0.16 * ring / _RINGS - 0.06)
        over(patch[:, rows, columns], look_up(colours, tones), cover)


def _near(places: Floats, reach: float) -> slice | None:
    """Give the range of ascending places that lie within reach of 0, if there are any."""
    first, last = np.searchsorted(places, (-reach, reach)).tolist()
    return slice(first, last) if first < last else None


def _petals(away: Floats, angle: Floats, size: float) -> tuple[Floats, Floats, Floats]:
    """Shape one ring of petals.

    Args:
        away: Distance from the flower's centre, in radii of the ring.
        angle: Angle around it, in petals.
        size: Radius of the ring, in pixels.

    Returns:
        Brightness, coverage and the shadow cast on what lies below, each from 0 to 1.
    """
    side = angle % 1.0 * 2 - 1
    wide = np.abs(side)
    rim = 1.0 - 0.34 * wide * wide
    edge = (rim - away) * np.float32(size)
    cover = clamp(edge + 0.5)
    shadow = 0.42 * clamp(1 + (rim - away) * 5) ** 2
    fold = 0.5 + 0.5 * np.cos(side * np.float32(np.pi))
    along = away / rim
    vein = 0.05 * np.cos(side * 22) * smoothstep(0.5, 0.95, away)
    shade = 0.12 + 0.62 * smoothstep(0.45, 1.0, along) * (0.45 + 0.55 * fold) + vein
    shade += 0.3 * smoothstep(0.93, 1.0, along) - 0.14 * smoothstep(0.55, 1.0, wide)
    return shade, cover, shadow
