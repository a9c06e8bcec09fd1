"""A polished slice of agate: fine bands around a hollow of crystal, with a dark rind."""

from __future__ import annotations

from typing import Final

import numpy as np

from app.media_generator.dummy_media_generator.painters.noise import noise, resize, warp
from app.media_generator.dummy_media_generator.painters.scene import (
    Scene,
    clamp,
    glow,
    look_up,
    over,
    smoothstep,
)
from app.media_generator.dummy_media_generator.palettes import TABLE_SIZE, Floats, mix

_BANDS: Final = 46


def paint_agate(scene: Scene) -> Floats:
    """Colour the bent distance from a hollow by a long series of bands."""
    full = (scene.height, scene.width)
    half = Scene(-(-scene.width // 2), -(-scene.height // 2), scene.rng, scene.palette, scene.report)
    field = resize(_field(half), full)
    scene.report(0.4)
    image = look_up(_bands(scene), clamp(field))
    scene.report(0.6)
    cloud = noise(scene, 2.2, 5, 0.55)
    fine = noise(scene, 30.0, 3, 0.8, 1.0)
    for plane in image:
        plane[...] *= 1.0 + 0.07 * cloud + 0.025 * fine
    scene.report(0.75)
    _crystal(scene, image, field)
    _polish(scene, image)
    return image


def _field(scene: Scene) -> Floats:
    """Measure how far each place lies from the hollow, from 0 to 1, bent by slow noise."""
    unit = scene.unit
    centre = (scene.across * scene.uniform(0.35, 0.65), scene.down * scene.uniform(0.35, 0.65))
    lean = scene.uniform(0, np.pi)
    x, y = scene.x - np.float32(centre[0]), scene.y - np.float32(centre[1])
    along = x * np.float32(np.cos(lean)) + y * np.float32(np.sin(lean))
    off = y * np.float32(np.cos(lean)) - x * np.float32(np.sin(lean))
    round_off = np.sqrt((along / np.float32(1.45)) ** 2 + off**2 + np.float32(0.004)) * np.float32(0.95)
    slow = noise(scene, 1.3, 2, 0.4)
    scene.report(0.1)
    lobes = noise(scene, 3.0, 3, 0.42)
    bent = round_off + 0.15 * slow + 0.06 * np.abs(lobes) * smoothstep(0.0, 0.3, round_off)
    scene.report(0.2)
    swirl = noise(scene, 2.0, 3, 0.4)
    bent = warp(bent, swirl * (0.05 * unit), slow * (0.05 * unit))
    reach = 0.62 + 0.25 * max(scene.across, scene.down)
    return np.asarray((bent + 0.02) / reach, np.float32)


def _bands(scene: Scene) -> Floats:
    """Line up bands of random breadth, with thin bright lines between some, in a table of shape (3, n)."""
    palette = scene.palette
    size = TABLE_SIZE * 2
    breadth = scene.rng.gamma(1.3, 1.0, _BANDS) + 0.12
    ends = np.cumsum(breadth) / breadth.sum()
    place = np.linspace(0, 1, size)
    band = np.minimum(np.searchsorted(ends, place), _BANDS - 1)
    walk = np.linspace(0.0, 2.6 * np.pi, _BANDS) + scene.uniform(0, 6)
    tone = 0.52 - 0.27 * np.cos(walk) + scene.rng.uniform(-0.2, 0.2, _BANDS)
    within = (place - np.concatenate([[0.0], ends])[band]) / (breadth / breadth.sum())[band]
    tones = np.clip(tone[band] + 0.10 * (within - 0.5), 0.03, 0.97)
    colours = palette.ramp[:, (tones * (TABLE_SIZE - 1)).astype(np.intp)].copy()
    lines = scene.rng.random(_BANDS) < 0.34  # noqa: PLR2004 - a share of the bands has a bright seam
    seam = lines[band] & (within < np.minimum(0.35, 0.0035 / (breadth / breadth.sum())[band]))
    colours[:, seam] = mix(palette.light, palette.accents[1], 0.18)[:, None]
    kernel = np.hanning(11) / np.hanning(11).sum()
    padded = np.pad(colours, ((0, 0), (5, 5)), mode="edge")
    return np.stack([np.convolve(row, kernel, "valid") for row in padded]).astype(np.float32)


def _crystal(scene: Scene, image: Floats, field: Floats) -> None:
    """Fill the hollow with facets that sparkle."""
    facets = np.abs(noise(scene, 24.0, 4, 0.7))
    deep = smoothstep(0.17, 0.10, field + 0.012 * facets)
    over(image, scene.palette.shade(0.22), deep * 0.9)
    glow(
        image,
        scene.palette.light,
        deep * (0.75 * smoothstep(0.25, 1.3, facets) + 0.2 * smoothstep(0.06, 0.14, field)),
    )
    rim = np.exp(-(((field + 0.012 * facets - 0.15) / 0.012) ** 2))
    glow(image, scene.palette.light, rim * 0.55)


def _polish(scene: Scene, image: Floats) -> None:
    """Let light fall from the upper left over the polished stone."""
    shine = (scene.across - scene.x) / scene.across * 0.5 + (scene.down - scene.y) / scene.down * 0.5
    glow(image, scene.palette.light, np.asarray(0.10 * shine**3, np.float32))
