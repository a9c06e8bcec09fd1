"""A nebula of glowing gas with lanes of dust and many stars."""

from __future__ import annotations

import numpy as np

from app.media_generator.dummy_media_generator.painters.noise import noise, resize, warp
from app.media_generator.dummy_media_generator.painters.scene import Scene, clamp, glow, ramp, smoothstep
from app.media_generator.dummy_media_generator.painters.sky import spot, stars
from app.media_generator.dummy_media_generator.palettes import Floats, mix


def paint_nebula(scene: Scene) -> Floats:
    """Paint folded clouds of light on a dark sky."""
    half = Scene(-(-scene.width // 2), -(-scene.height // 2), scene.rng, scene.palette, scene.report)
    gas, dust, hue = _gas(half)
    scene.report(0.5)
    full = (scene.height, scene.width)
    gas, dust, hue = resize(gas, full), resize(dust, full), resize(hue, full)
    image = ramp(scene.palette, clamp(0.02 + 1.1 * clamp(gas) ** 1.25 * (1 - 0.8 * dust)))
    scene.report(0.65)
    accents = scene.palette.accents
    body = clamp(gas * 1.5) * (1 - 0.85 * dust)
    glow(image, accents[3], 0.45 * body * smoothstep(0.0, 0.9, hue))
    glow(image, accents[1], 0.4 * body * smoothstep(0.0, -0.9, hue))
    scene.report(0.8)
    stars(scene, image, 700.0)
    _bright_stars(scene, image)
    return image


def _gas(scene: Scene) -> tuple[Floats, Floats, Floats]:
    """Make the density of the gas and of the dust, from 0 to 1, and a field that decides the hue."""
    unit = scene.unit
    swirl = noise(scene, 1.5, 4)
    twist = noise(scene, 1.5, 4)
    scene.report(0.1)
    cloud = warp(noise(scene, 2.2, 7, 0.62), swirl * (0.15 * unit), twist * (0.15 * unit))
    scene.report(0.25)
    veins = warp(noise(scene, 2.2, 6, 0.55), twist * (0.1 * unit), swirl * (0.1 * unit))
    scene.report(0.4)
    # The cloud lies along a slanting band, brightest somewhere on it.
    angle = scene.uniform(-1.0, 1.0)
    x, y = scene.x - scene.across / 2, scene.y - scene.down / 2
    off = x * np.float32(np.sin(angle)) + y * np.float32(np.cos(angle)) + 0.2 * swirl
    along = x * np.float32(np.cos(angle)) - y * np.float32(np.sin(angle))
    core = np.exp(-((off / 0.3) ** 2)) * (0.72 + 0.28 * np.cos(along * 3 + scene.uniform(-1, 1)))
    gas = np.maximum(core * (0.5 + 0.6 * cloud) + 0.12 * (cloud + 0.55), 0.0)
    filaments = np.clip(1 - np.abs(veins) * 3.2, 0, 1) ** 2
    gas += 0.25 * filaments * core * smoothstep(-0.2, 0.6, cloud)
    gas = 1 - np.exp(-1.15 * gas)
    dust = smoothstep(0.05, 0.75, warp(noise(scene, 2.6, 6, 0.55), swirl * (0.13 * unit), veins * (0.05 * unit)))
    return gas, dust * core, np.clip(twist * 1.6 + 0.4 * veins, -1, 1)


def _bright_stars(scene: Scene, image: Floats) -> None:
    """Set a few near stars with a halo and a cross of rays."""
    count = max(3, int(7 * min(scene.across * scene.down, 4.0)))
    for place in scene.rng.random((count, 3)):
        centre = (float(place[0]) * scene.across, float(place[1]) * scene.down)
        size = 0.0018 + 0.0035 * float(place[2]) ** 3
        tint = mix(scene.palette.light, scene.palette.accents[1], 0.35)
        spot(scene, image, centre, size * 7, tint * 0.28)
        spot(scene, image, centre, size, np.ones(3))
        _rays(scene, image, centre, size * 14)


def _rays(scene: Scene, image: Floats, centre: tuple[float, float], length: float) -> None:
    """Draw the cross that a telescope gives a bright star; the length is in units."""
    x, y = centre[0] * scene.unit, centre[1] * scene.unit
    reach = int(length * scene.unit) + 2
    left, right = max(int(x) - reach, 0), min(int(x) + reach, scene.width)
    top, bottom = max(int(y) - reach, 0), min(int(y) + reach, scene.height)
    across = np.abs(np.arange(left, right) + 0.5 - x).astype(np.float32)
    along = np.abs(np.arange(top, bottom) + 0.5 - y).astype(np.float32)[:, None]
    thin = max(0.0011 * scene.unit, 0.5)
    fall = reach / 3.2
    rays = np.exp(-along / thin - across / fall) + np.exp(-across / thin - along / fall)
    glow(image[:, top:bottom, left:right], np.ones(3, np.float32), clamp(rays * 0.75))
