"""A city at dusk: towers that fade into haze, lit windows and their shine on the water."""

from __future__ import annotations

from typing import Final

import numpy as np

from app.media_generator.dummy_media_generator.painters.noise import noise
from app.media_generator.dummy_media_generator.painters.scene import Scene, clamp, glow, over, smoothstep
from app.media_generator.dummy_media_generator.painters.sky import clouds, moon, sky, stars, sun
from app.media_generator.dummy_media_generator.palettes import Floats, mix, parse

_SHORE: Final = 0.84
"""Where the water begins, as a share of the height."""

_LAYERS: Final = 4


def paint_skyline(scene: Scene) -> Floats:
    """Paint four rows of towers from far and pale to near and dark."""
    palette = scene.palette
    image = sky(scene, scene.uniform(0.1, 0.2), 0.82, _SHORE * 0.95)
    stars(scene, image, 120.0, 0.4)
    clouds(scene, image, 0.7, palette.shade(0.75), 0.5)
    tall = min(scene.down, 1.5)
    place = scene.across * scene.uniform(0.2, 0.8)
    if scene.uniform(0, 1) < 0.45:  # noqa: PLR2004 - a share of the pictures
        moon(scene, image, (place, scene.down * 0.2), 0.055)
    else:
        sun(scene, image, (place, scene.down * _SHORE - 0.3 * tall), 0.1, 0.55)
    scene.report(0.3)
    for layer in range(_LAYERS):
        _row(scene, image, layer / (_LAYERS - 1))
        scene.report(0.35 + 0.12 * layer)
    _reflect(scene, image)
    return image


def _row(scene: Scene, image: Floats, near: float) -> None:
    """Build one row of towers; near goes from 0 at the horizon to 1 in front."""
    palette = scene.palette
    tall = min(scene.down, 1.5)
    shore = round(scene.height * _SHORE)
    body = palette.shade(0.56 - 0.52 * near**0.8)
    cover = np.zeros((shore, scene.width), np.float32)
    lamps = np.zeros((shore, scene.width), np.float32)
    left = scene.uniform(-0.1, 0.0)
    while left < scene.across:
        wide = scene.uniform(0.05, 0.11) * (0.7 + 0.45 * near)
        middle = 1 - 0.45 * abs(2 * (left + wide / 2) / scene.across - 1)
        high = tall * scene.uniform(0.16, 0.62) ** 1.15 * middle * (1.12 - 0.42 * near)
        _tower(scene, (cover, lamps), (left, wide, high), near)
        left += wide * scene.uniform(0.75, 1.5 + 0.5 * near)
    haze = smoothstep(0.34 * tall, 0.0, scene.down * _SHORE - scene.y[:shore]) * (0.62 - 0.5 * near)
    mist = mix(palette.shade(0.8), palette.light, 0.15)
    for plane, dark, pale in zip(image[:, :shore], body, mist, strict=True):
        wall = dark + (pale - dark) * haze
        plane[...] += (wall - plane) * cover
    glow(image[:, :shore], mix(palette.light, parse("ffc96b")[0], 0.6), lamps * (0.35 + 0.6 * near))


def _tower(scene: Scene, masks: tuple[Floats, Floats], shape: tuple[float, float, float], near: float) -> None:
    """Raise one tower into the masks of walls and lamps; shape is left, width and height in units."""
    left, wide, high = shape
    style, setback, slim = scene.rng.random(3).tolist()
    blocks = [(left, wide, high)]
    if style < 0.45:  # noqa: PLR2004 - a share of the towers steps back
        blocks.append((left + wide * 0.18, wide * 0.64, high * (1.08 + 0.1 * setback)))
    if style < 0.2:  # noqa: PLR2004 - fewer step back twice
        blocks.append((left + wide * 0.34, wide * 0.32, high * (1.24 + 0.1 * setback)))
    if slim < 0.28:  # noqa: PLR2004 - some carry a mast
        top = blocks[-1]
        mast = 0.0035 + 0.002 * near
        blocks.append((top[0] + top[1] / 2 - mast / 2, mast, top[2] + 0.05 + 0.06 * setback))
    for block in blocks:
        _fill(scene, masks[0], block)
    _windows(scene, masks[1], (left, wide, high), near)


def _fill(scene: Scene, mask: Floats, block: tuple[float, float, float]) -> None:
    """Set a block of left, width and height in units, with smooth upright edges."""
    left, right = block[0] * scene.unit, (block[0] + block[1]) * scene.unit
    top = max(0, len(mask) - round(block[2] * scene.unit))
    first, last = max(0, int(left)), min(scene.width, int(right) + 1)
    if first >= last:
        return
    pixels = np.arange(first, last)
    share = clamp(np.minimum(pixels + 1, right) - np.maximum(pixels, left)).astype(np.float32)
    np.maximum(mask[top:, first:last], share, out=mask[top:, first:last])


def _windows(scene: Scene, mask: Floats, block: tuple[float, float, float], near: float) -> None:
    """Light some windows of a tower, storey by storey."""
    left, wide, high = block
    storey = 0.0125 + 0.006 * near
    columns, storeys = max(2, int(wide / (storey * 0.72))), max(1, int(high / storey) - 1)
    lit = scene.rng.random((storeys, columns)) < scene.rng.uniform(0.06, 0.5) * (0.5 + 0.5 * near)
    strength = np.where(lit, scene.rng.uniform(0.35, 1.0, lit.shape), 0.0).astype(np.float32)
    rows = (len(mask) - high * scene.unit - np.arange(len(mask))) / (-storey * scene.unit) - 0.6
    across = (scene.x - np.float32(left)) / wide * columns
    inside = (across > 0.12) & (across < columns - 0.12)  # noqa: PLR2004 - walls at the sides
    tall = (rows > 0) & (rows < storeys)
    first, last = int(np.argmax(inside)), int(scene.width - np.argmax(inside[::-1]))
    top, bottom = int(np.argmax(tall)), int(len(mask) - np.argmax(tall[::-1]))
    if not inside.any() or not tall.any():
        return
    u, v = across[first:last], rows[top:bottom]
    pane = ((v % 1 < 0.55)[:, None] & (np.abs(u % 1 - 0.5) < 0.29)).astype(np.float32)  # noqa: PLR2004 - sill and frame
    grid = strength[np.minimum(v.astype(np.intp), storeys - 1)][:, np.minimum(u.astype(np.intp), columns - 1)]
    mask[top:bottom, first:last] = grid * pane


def _reflect(scene: Scene, image: Floats) -> None:
    """Mirror the city in water that draws its lights out downwards."""
    shore = round(scene.height * _SHORE)
    rows = np.arange(scene.height - shore)
    depth = (rows / max(len(rows) - 1, 1))[:, None].astype(np.float32)
    ripple = noise(scene, 16.0, 3, 0.6, 9.0)[shore:]
    source = shore - 1 - rows[:, None] * 2.2 - ripple * (0.035 * scene.unit * (0.3 + depth))
    row = np.clip(source, 0, shore - 1).astype(np.intp)
    column = np.clip(np.arange(scene.width) + ripple * (0.008 * scene.unit), 0, scene.width - 1)
    index = row * scene.width + column.astype(np.intp)
    fade = 0.72 - 0.34 * depth + 0.08 * ripple
    for plane, dark in zip(image, scene.palette.shade(0.1), strict=True):
        mirrored = np.take(plane.ravel(), index)
        plane[shore:] = dark + (mirrored - dark) * fade
    rim = np.exp(-np.abs(scene.y * scene.unit - shore) / (0.004 * scene.unit))
    over(image, scene.palette.shade(0.04), rim * 0.8)
