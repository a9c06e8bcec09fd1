"""A stained-glass window: sun, sky and hills in panes of colour between lines of lead."""

from __future__ import annotations

from typing import Final

import numpy as np

from app.media_generator.dummy_media_generator.painters.noise import noise, profile
from app.media_generator.dummy_media_generator.painters.scene import Scene, clamp, smoothstep
from app.media_generator.dummy_media_generator.palettes import Floats, Integers, mix

_TILE: Final = 64
"""Side in pixels of the squares that are filled at a time, each looking only at seeds near it."""

_LEAD: Final = 0.0048
"""Half the width of a line of lead, in units."""


_MARGIN: Final = 0.15
"""How far outside the picture there are still panes, in units."""


def paint_mosaic(scene: Scene) -> Floats:
    """Cut the plane into panes around the sun and light each from behind."""
    centre = np.array([scene.across * scene.uniform(0.3, 0.7), scene.down * scene.uniform(0.28, 0.45)])
    seeds, ring = _seeds(scene, centre)
    colours = _colours(scene, seeds, ring, centre)
    scene.report(0.1)
    nearest, edge = _panes(scene, seeds)
    scene.report(0.7)
    image: Floats = np.asarray(np.take(colours, nearest, axis=1), np.float32)
    streaks = noise(scene, 9.0, 4, 0.6, 0.45)
    light = 0.90 + 0.16 * streaks + 0.22 * smoothstep(0.0, 0.05, edge - _LEAD)
    away = np.hypot(scene.x - np.float32(centre[0]), scene.y - np.float32(centre[1]))
    light *= 0.84 + 0.34 * np.exp(-((away / 0.5) ** 2))
    scene.report(0.85)
    lead = clamp((edge - _LEAD) * scene.unit + 0.5)
    # The lead is round: it catches a little light along its middle.
    metal = 0.05 + 0.11 * clamp(1 - edge / _LEAD) ** 2
    for plane, dark in zip(image, scene.palette.ink, strict=True):
        plane[...] *= light
        np.minimum(plane, 1.0, out=plane)
        solder = dark * 0.4 + metal
        plane[...] += (solder - plane) * (1 - lead)
    return image


def _seeds(scene: Scene, centre: Floats) -> tuple[Floats, Floats]:
    """Place one seed per pane: rings around the sun, which loosen with the distance.

    Returns:
        Places in units, of shape (count, 2), and the number of each one's ring.
    """
    places: list[Floats] = [centre[None, :]]
    rings: list[Floats] = [np.zeros(1)]
    radius, ring = 0.105, 1
    reach = float(np.hypot(scene.across, scene.down))
    while radius < reach:
        step = 0.052 + 0.024 * min(radius, 1.0)
        count = max(8, round(2 * np.pi * radius / (step * (1.9 if ring <= 3 else 1.25))))  # noqa: PLR2004 - the sun's rays
        loose = min(1.0, max(0.0, (ring - 2) / 4))
        turn = (np.arange(count) + 0.5 * (ring % 2) + scene.rng.uniform(-0.33, 0.33, count) * loose) / count
        off = radius + scene.rng.uniform(-0.4, 0.4, count) * step * loose
        spots = centre + np.stack([np.cos(turn * 2 * np.pi), np.sin(turn * 2 * np.pi)], -1) * off[:, None]
        places.append(spots)
        rings.append(np.full(count, float(ring)))
        radius += step
        ring += 1
    seeds, numbers = np.concatenate(places), np.concatenate(rings)
    inside = np.all((seeds > -_MARGIN) & (seeds < (scene.across + _MARGIN, scene.down + _MARGIN)), axis=1)
    return seeds[inside].astype(np.float32), numbers[inside]


def _colours(scene: Scene, seeds: Floats, ring: Floats, centre: Floats) -> Floats:
    """Give every pane the colour of what the window shows there, in an array of shape (3, count)."""
    palette = scene.palette
    away = np.hypot(seeds[:, 0] - centre[0], seeds[:, 1] - centre[1])
    luck = scene.rng.uniform(-1.0, 1.0, (2, len(seeds)))
    place = clamp(0.92 - 0.62 * (away / 0.95) ** 0.7 + 0.09 * luck[0])
    colours = palette.ramp[:, (place * (palette.ramp.shape[1] - 1)).astype(np.intp)].T.copy()
    for step, accent in enumerate((4, 3, 0)):
        tall = min(scene.down, 1.4)
        hill = scene.down - tall * (0.36 - 0.11 * step) + 0.09 * tall * profile(scene, seeds[:, 0], 1.1, 2)
        under = seeds[:, 1] > hill
        tint = mix(palette.accents[accent], palette.shade(0.3 + 0.05 * step), 0.2)
        colours[under] = tint * (1 + 0.2 * luck[0, under, None])
    rare = luck[1] > 0.86  # noqa: PLR2004 - few panes stand out
    colours[rare] = palette.accents[(np.abs(luck[0, rare]) * len(palette.accents)).astype(np.intp)]
    colours[ring <= 1] = mix(palette.light, palette.shade(0.9), 0.35)
    colours[ring == 0] = palette.light
    return clamp(colours.T).astype(np.float32)


def _panes(scene: Scene, seeds: Floats) -> tuple[Integers, Floats]:
    """Find for every pixel the pane it lies in and how far its edge is, in units."""
    nearest = np.empty((scene.height, scene.width), np.int32)
    edge = np.empty((scene.height, scene.width), np.float32)
    half = np.float32(_TILE / scene.unit / 2)
    for top in range(0, scene.height, _TILE):
        for left in range(0, scene.width, _TILE):
            part = (slice(top, top + _TILE), slice(left, left + _TILE))
            x, y = scene.x[part[1]], scene.y[part[0]]
            away = np.abs(seeds - (x[0] + half, y[0, 0] + half))
            order = np.hypot(away[:, 0], away[:, 1])
            # No seed further off than the nearest one, the tile's diagonal and a pane can matter.
            close = np.flatnonzero(order < order.min() + half * np.float32(2.83) + np.float32(0.1))
            nearest[part], edge[part] = _tile(seeds[close], x, y)
            nearest[part] = close[nearest[part]]
    return nearest, edge


def _tile(seeds: Floats, x: Floats, y: Floats) -> tuple[Integers, Floats]:
    """Find the nearest seed of each pixel of a tile, and the distance to the border of its pane."""
    best = np.full((len(y), len(x)), np.inf, np.float32)
    second = best.copy()
    first = np.zeros(best.shape, np.intp)
    other = np.zeros(best.shape, np.intp)
    for index, (across, down) in enumerate(seeds):
        square = (x - across) ** 2 + (y - down) ** 2
        wins, places = square < best, square < second
        np.copyto(other, index, where=places)
        np.copyto(second, square, where=places)
        np.copyto(other, first, where=wins)
        np.copyto(second, best, where=wins)
        np.copyto(first, index, where=wins)
        np.copyto(best, square, where=wins)
    between = np.hypot(*(seeds[:, None] - seeds[None]).transpose(2, 0, 1)) * 2
    np.fill_diagonal(between, np.inf)
    return first, np.asarray((second - best) / between[first, other], np.float32)
