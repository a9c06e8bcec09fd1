"""Desert dunes with a bright and a shadowed side, and ripples of wind in the sand."""

from __future__ import annotations

from typing import Final

import numpy as np

from app.media_generator.dummy_media_generator.painters.noise import noise, profile
from app.media_generator.dummy_media_generator.painters.scene import Scene, clamp, ramp, smoothstep
from app.media_generator.dummy_media_generator.painters.sky import clouds, sky, sun
from app.media_generator.dummy_media_generator.palettes import Floats, mix

_LAYERS: Final = 6


def paint_dunes(scene: Scene) -> Floats:
    """Paint rows of dunes that grow towards the viewer, under a large sun."""
    image = sky(scene, scene.uniform(0.5, 0.62), 0.97, 0.5)
    clouds(scene, image, 0.5, scene.palette.shade(1.0), 0.5)
    centre = (scene.across * scene.uniform(0.2, 0.8), scene.down * scene.uniform(0.2, 0.33))
    sun(scene, image, centre, scene.uniform(0.07, 0.13), 0.45)
    scene.report(0.2)
    drift = noise(scene, 1.6, 3)
    grain = noise(scene, 24.0, 4, 0.7, 2.0)
    for layer in range(_LAYERS):
        _dune(scene, image, layer / (_LAYERS - 1), (drift, grain))
        scene.report(0.25 + 0.7 * layer / _LAYERS)
    return image


def _dune(scene: Scene, image: Floats, near: float, fields: tuple[Floats, Floats]) -> None:
    """Lay one row of dunes over what is behind it; near goes from 0 at the horizon to 1 in front."""
    tall = min(scene.down, 1.5)
    base = scene.down * (0.45 + 0.42 * near**1.1)
    spread = 0.5 + 1.1 * near
    phase = scene.x / spread + scene.uniform(0, 9) + 0.22 * profile(scene, scene.x, 1.0, 2)
    wave = np.abs(phase % 1.0 * 2 - 1)
    rise = tall * (0.05 + 0.11 * near) * (0.75 + 0.4 * profile(scene, scene.x, 0.8, 1))
    crest = base - rise * (wave * wave * (3 - 2 * wave) * 0.45 + wave * 0.55)
    first = max(0, int(crest.min() * scene.unit) - 2)
    if first >= scene.height:
        return
    drift, grain = fields[0][first:], fields[1][first:]
    depth = scene.y[first:] - crest
    below = depth / (tall * (0.16 + 0.3 * near))
    # A crest's line snakes down the slope; left of it the sand is lit, right of it in shadow.
    bend = (0.16 - 0.13 * near) * np.minimum(below, 1.2)
    snake = phase + bend * (np.sin(below * 4.2 + 1.5 * drift + near * 5) + 3.0 * near) + 0.05 * (1 - 0.6 * near) * drift
    turn = snake % 1.0
    edge = 0.01 + 0.05 * np.minimum(np.abs(below), 1.2) ** 1.5
    lit = smoothstep(0.36, 0.78, turn) * clamp((1.0 - turn) / edge)
    shade = _sand(near, below, lit)
    stripes = np.sin((scene.y[first:] - 0.45 * crest + 0.06 * drift) / (0.0016 + 0.0034 * near) + 0.8 * grain)
    shade += (0.006 + 0.026 * near) * stripes * (0.35 + 0.65 * lit) * smoothstep(0.05, 0.5, below)
    shade += (0.01 + 0.015 * near) * grain
    colour = ramp(scene.palette, shade)
    haze = mix(scene.palette.shade(0.93), scene.palette.light, 0.3)
    veil = 0.55 * (1 - near) ** 1.5
    cover = clamp(depth * scene.unit + 0.5)
    for plane, sand, pale in zip(image[:, first:], colour, haze, strict=True):
        sand[...] += (pale - sand) * veil
        plane[...] += (sand - plane) * cover


def _sand(near: float, below: Floats, lit: Floats) -> Floats:
    """Say how bright sand is, as a place on the ramp."""
    bright = 0.86 - 0.1 * near - 0.10 * np.minimum(below, 1.5)
    dark = 0.50 - 0.28 * near + 0.06 * np.minimum(below, 1.0)
    return dark + (bright - dark) * lit
