"""Strokes of a broad pen that follow an unseen current over paper and never cross."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from app.media_generator.dummy_media_generator.painters.noise import noise
from app.media_generator.dummy_media_generator.painters.scene import Scene
from app.media_generator.dummy_media_generator.palettes import Bools, Floats, mix

_STEP: Final = 0.008
"""Length of one step along a stroke, in units."""

_STEPS: Final = 110
_CELL: Final = 0.004
"""Side of a cell of the map that remembers where ink is, in units."""

_MAP: Final = 160
"""Cells of the map of the current per short side."""

_GAP: Final = 0.006
"""Paper left between strokes, in units."""

_SHORTEST: Final = 6.0
"""A stroke shorter than this many half widths is not drawn."""


_WIDTHS: Final = (0.026, 0.0165, 0.009, 0.0042)
"""Half widths of the pens in units, the broadest first."""


def paint_ink(scene: Scene) -> Floats:
    """Draw broad strokes first and fill the gaps with finer ones."""
    paths = _paths(scene)
    scene.report(0.25)
    strokes = _choose(scene, *paths)
    scene.report(0.5)
    sheet = _draw(scene, strokes)
    scene.report(0.85)
    image = np.ascontiguousarray(np.asarray(sheet, np.float32).transpose(2, 0, 1))
    image /= 255
    fibre = noise(scene, 40.0, 3, 0.8, 2.5)
    image *= 1.0 + 0.018 * fibre
    return image


def _paths(scene: Scene) -> tuple[Floats, Floats]:
    """Follow the current from many places at once.

    Returns:
        Places in units, of shape (count, steps, 2), and half widths in units, of shape (count,).
    """
    wide, high = (max(8, round(_MAP * side)) for side in (scene.across, scene.down))
    small = Scene(wide, high, scene.rng, scene.palette, scene.report)
    lean = scene.uniform(0, 2 * np.pi)
    angles = noise(small, 1.15, 2, 0.4) * np.float32(1.9) + np.float32(lean)
    area = scene.across * scene.down
    counts = [int(share * min(area, 4.0)) for share in (110, 450, 1100, 1500)]
    half = np.repeat(_WIDTHS, counts)
    start = scene.rng.uniform(-0.03, 1.03, (len(half), 2)) * (scene.across, scene.down)
    trail = np.empty((len(half), _STEPS, 2))
    at = start
    for step in range(_STEPS):
        trail[:, step] = at
        column = np.clip(at[:, 0] * _MAP, 0, small.width - 1).astype(np.intp)
        row = np.clip(at[:, 1] * _MAP, 0, small.height - 1).astype(np.intp)
        angle = angles[row, column]
        at = at + np.stack([np.cos(angle), np.sin(angle)], -1) * _STEP
    return trail, half


def _choose(scene: Scene, trail: Floats, half: Floats) -> list[tuple[Floats, float]]:
    """Keep what of each stroke lies on free paper, giving (places of shape (steps, 2), half width)."""
    rows, columns = (int(side / _CELL) + 1 for side in (scene.down, scene.across))
    cells = (trail[:, :, ::-1] / _CELL).astype(np.intp)
    inside = np.all((cells >= 0) & (cells < (rows, columns)), axis=2)
    np.clip(cells, 0, (rows - 1, columns - 1), out=cells)
    inked = np.zeros((rows, columns), bool)
    strokes: list[tuple[Floats, float]] = []
    for width in _WIDTHS:
        # With what is inked grown by the pen's own breadth, only a stroke's middle need be looked at.
        blocked = _grown(inked, width + _GAP)
        for index in np.flatnonzero(half == width):
            spots = cells[index]
            if blocked[spots[0, 0], spots[0, 1]]:
                continue
            free = inside[index] & ~blocked[spots[:, 0], spots[:, 1]]
            length = _STEPS if free.all() else int(np.argmin(free))
            if length * _STEP >= _SHORTEST * width:
                _mark(inked, spots[:length], width)
                _mark(blocked, spots[:length], 2 * width + _GAP)
                strokes.append((trail[index, :length], width))
    return strokes


def _grown(inked: Bools, reach: float) -> Bools:
    """Widen what is inked by a reach in units."""
    image = Image.fromarray(inked.astype(np.uint8) * 255)
    for _ in range(round(reach / _CELL)):
        image = image.filter(ImageFilter.MaxFilter(3))
    return np.array(np.asarray(image) > 0)


def _mark(field: Bools, spots: npt.NDArray[np.intp], radius: float) -> None:
    """Set a disc of a radius in units around every spot."""
    around = spots[::2, None] + _disc(radius)
    np.clip(around, 0, (field.shape[0] - 1, field.shape[1] - 1), out=around)
    field[around[..., 0], around[..., 1]] = True


def _disc(radius: float) -> npt.NDArray[np.intp]:
    """List the cells of a disc with a radius in units, as offsets of shape (count, 2)."""
    reach = max(1, round(radius / _CELL))
    down, across = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside = down**2 + across**2 <= reach**2
    return np.stack([down[inside], across[inside]], -1)


def _draw(scene: Scene, strokes: list[tuple[Floats, float]]) -> Image.Image:
    """Draw strokes that swell in the middle, on paper."""
    palette = scene.palette
    samples = 2
    paper = mix(palette.paper, palette.shade(0.95), 0.3)
    size = (scene.width * samples, scene.height * samples)
    sheet = Image.new("RGB", size, _code(paper))
    pen = ImageDraw.Draw(sheet)
    shades = [*palette.accents, palette.shade(0.12), palette.shade(0.3), palette.shade(0.6)]
    codes = [_code(shade) for shade in shades]
    picks: list[int] = scene.rng.choice(len(codes), len(strokes), p=_odds(len(codes))).tolist()
    for (path, half), pick in zip(strokes, picks, strict=True):
        outline = _outline(path, half) * (scene.unit * samples)
        pen.polygon(outline.ravel().tolist(), fill=codes[pick])
    return sheet.reduce(samples)


def _odds(count: int) -> Floats:
    """Favour the first accents and the ink."""
    odds = np.ones(count)
    odds[[0, 5]] = 1.8
    return np.asarray(odds / odds.sum())


def _outline(path: Floats, half: float) -> Floats:
    """Give a path breadth: round at its head, drawn out at its tail."""
    ahead: Floats = np.asarray(np.gradient(path, axis=0))
    across, down = ahead[:, 0], ahead[:, 1]
    normal = np.stack([-down, across], -1) / np.hypot(across, down)[:, None]
    gone = np.arange(len(path)) * _STEP
    left = gone[-1] - gone
    head = np.sqrt(np.clip(1 - (1 - gone / half) ** 2, 0.0, 1.0) * (gone < half) + (gone >= half))
    tail = np.sqrt(np.clip(1 - (1 - left / half) ** 2, 0.0, 1.0) * (left < half) + (left >= half))
    breadth = (half * np.minimum(head, tail))[:, None]
    return np.concatenate([path + normal * breadth, (path - normal * breadth)[::-1]])


def _code(colour: Floats) -> tuple[int, int, int]:
    """Convert a colour from 0 to 1 to bytes."""
    red, green, blue = (round(float(value) * 255) for value in colour)
    return red, green, blue
