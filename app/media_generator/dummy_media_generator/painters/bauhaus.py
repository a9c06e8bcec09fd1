"""A poster of circles, arcs and bars on a grid, printed on warm paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from PIL import Image, ImageDraw

from app.media_generator.dummy_media_generator.painters.noise import noise
from app.media_generator.dummy_media_generator.palettes import Floats, mix

if TYPE_CHECKING:
    from app.media_generator.dummy_media_generator.painters.scene import Scene

_SAMPLES: Final = 2
_LARGE: Final = 0.26
"""Share of the places for a tile of two by two squares that get one."""

_MOST: Final = 400
"""Tiles of the longest poster."""


class _Tile(Protocol):
    """Draws into a square of the sheet: its corner and side in samples, colours, and a quarter turn."""

    def __call__(
        self, pen: ImageDraw.ImageDraw, box: tuple[float, float, float], inks: list[str], turn: int
    ) -> None: ...


def paint_bauhaus(scene: Scene) -> Floats:
    """Fill a grid with shapes, some of which span two by two squares."""
    sheet = Image.new("RGB", (scene.width * _SAMPLES, scene.height * _SAMPLES), _hex(_ground(scene)))
    pen = ImageDraw.Draw(sheet)
    tiles, side, corner = _plan(scene)
    scene.report(0.1)
    inks = _inks(scene)
    for index, (column, row, span) in enumerate(tiles):
        box = (
            (corner[0] + column * side) * scene.unit * _SAMPLES,
            (corner[1] + row * side) * scene.unit * _SAMPLES,
            side * span * scene.unit * _SAMPLES,
        )
        order: list[int] = scene.rng.permutation(len(inks)).tolist()
        picks = [inks[pick] for pick in order]
        draw = _DRAWERS[int(scene.rng.integers(len(_DRAWERS)))]
        draw(pen, box, picks, int(scene.rng.integers(4)))
        scene.report(0.1 + 0.6 * (index + 1) / len(tiles))
    image = np.asarray(sheet.reduce(_SAMPLES), np.float32).transpose(2, 0, 1) / np.float32(255)
    # Ink never covers paper evenly.
    cover = 1 + 0.012 * noise(scene, 60.0, 3, 0.9) + 0.02 * noise(scene, 2.0, 2)
    return image * cover


def _ground(scene: Scene) -> Floats:
    return mix(scene.palette.paper, scene.palette.shade(0.97), 0.4)


def _inks(scene: Scene) -> list[str]:
    """Choose the colours of the print, the ground among them."""
    palette = scene.palette
    colours = [*palette.accents, palette.shade(0.1), mix(palette.paper, palette.shade(0.9), 0.35)]
    return [_hex(colour) for colour in colours]


def _plan(scene: Scene) -> tuple[list[tuple[int, int, int]], float, tuple[float, float]]:
    """Divide the sheet into squares.

    Returns:
        Column, row and span of every tile; the side of a square and the corner of the grid in units.
    """
    margin = 0.05
    side = (1 - 2 * margin) / int(scene.rng.choice([4, 5, 6]))
    columns = max(1, int((scene.across - 2 * margin) / side + 1e-6))
    rows = max(1, int((scene.down - 2 * margin) / side + 1e-6))
    corner = ((scene.across - columns * side) / 2, (scene.down - rows * side) / 2)
    free = np.ones((rows, columns), bool)
    tiles: list[tuple[int, int, int]] = []
    for row in range(rows):
        for column in range(columns):
            large = free[row : row + 2, column : column + 2]
            whole = large.shape == (2, 2) and bool(large.all())
            span = 2 if whole and scene.uniform(0, 1) < _LARGE else 1
            if free[row, column] and len(tiles) < _MOST:
                tiles.append((column, row, span))
                free[row : row + span, column : column + span] = False
    return tiles, side, corner


def _hex(colour: Floats) -> str:
    return "#" + "".join(f"{round(float(value) * 255):02x}" for value in colour)


def _fill(pen: ImageDraw.ImageDraw, box: tuple[float, float, float], ink: str) -> None:
    x, y, side = (round(value) for value in box)
    pen.rectangle((x, y, x + side, y + side), fill=ink)


def _ball(pen: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, ink: str) -> None:
    x, y = centre
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)


def _corners(box: tuple[float, float, float], turn: int) -> list[tuple[float, float]]:
    x, y, side = box
    around = [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]
    return around[turn:] + around[:turn]


def _circle(pen: ImageDraw.ImageDraw, box: tuple[float, float, float], inks: list[str], turn: int) -> None:
    """A disc within a disc."""
    _fill(pen, box, inks[0])
    x, y, side = box
    centre = (x + side / 2, y + side / 2)
    _ball(pen, centre, side * 0.42, inks[1])
    _ball(pen, centre, side * (0.0, 0.24, 0.14, 0.24)[turn], inks[2])


def _quarter(pen: ImageDraw.ImageDraw, box: tuple[float, float, float], inks: list[str], turn: int) -> None:
    """Nested quarter circles around one corner."""
    _fill(pen, box, inks[0])
    side = box[2]
    x, y = _corners(box, turn)[0]
    for ink, share in zip(inks[1:], (1.0, 0.68, 0.36), strict=False):
        reach = side * share
        start = 90 * turn
        pen.pieslice((x - reach, y - reach, x + reach, y + reach), start, start + 90, fill=ink)


def _half(pen: ImageDraw.ImageDraw, box: tuple[float, float, float], inks: list[str], turn: int) -> None:
    """Two half discs, one behind the other."""
    _fill(pen, box, inks[0])
    x, y, side = box
    radius = side / 2
    for index, ink in enumerate(inks[1:3], start=1):
        centre = (x + radius, y + radius * index) if turn % 2 else (x + radius * index, y + radius)
        bounds = (centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius)
        start = 180 if turn % 2 else 90
        pen.pieslice(bounds, start, start + 180, fill=ink)


def _leaf(pen: ImageDraw.ImageDraw, box: tuple[float, float, float], inks: list[str], turn: int) -> None:
    """The lens that two quarter circles share."""
    _fill(pen, box, inks[0])
    corners = _corners(box, turn)
    arc = np.linspace(0, np.pi / 2, 48)
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = corners
    grow, shrink = np.sin(arc), 1 - np.cos(arc)
    there = [
        (ax + (bx - ax) * g + (dx - ax) * s, ay + (by - ay) * g + (dy - ay) * s)
        for g, s in zip(grow, shrink, strict=True)
    ]
    back = [
        (cx + (dx - cx) * g + (bx - cx) * s, cy + (dy - cy) * g + (by - cy) * s)
        for g, s in zip(grow, shrink, strict=True)
    ]
    pen.polygon(there + back, fill=inks[1])
    _ball(pen, ((ax + cx) / 2, (ay + cy) / 2), box[2] * 0.13, inks[2])


def _stripes(pen: ImageDraw.ImageDraw, box: tuple[float, float, float], inks: list[str], turn: int) -> None:
    """Five bars, upright or level."""
    _fill(pen, box, inks[0])
    x, y, side = box
    for index in (1, 3, 5):
        low, high = side * index / 7, side * (index + 1) / 7
        bar = (x + low, y, x + high, y + side) if turn % 2 else (x, y + low, x + side, y + high)
        pen.rectangle([round(value) for value in bar], fill=inks[1])


def _triangle(pen: ImageDraw.ImageDraw, box: tuple[float, float, float], inks: list[str], turn: int) -> None:
    """A square cut along its diagonal, with a disc in one half."""
    _fill(pen, box, inks[0])
    corners = _corners(box, turn)
    pen.polygon(corners[:3], fill=inks[1])
    (ax, ay), (bx, by), (cx, cy) = corners[:3]
    _ball(pen, (bx * 0.5 + (ax + cx) * 0.25, by * 0.5 + (ay + cy) * 0.25), box[2] * 0.14, inks[2])


def _dots(pen: ImageDraw.ImageDraw, box: tuple[float, float, float], inks: list[str], turn: int) -> None:
    """Nine dots, or four."""
    _fill(pen, box, inks[0])
    x, y, side = box
    count = 3 if turn % 2 else 2
    for row in range(count):
        for column in range(count):
            centre = (x + side * (column + 0.5) / count, y + side * (row + 0.5) / count)
            _ball(pen, centre, side * 0.3 / count, inks[1])


_DRAWERS: Final[tuple[_Tile, ...]] = (_circle, _quarter, _quarter, _half, _leaf, _stripes, _triangle, _dots)
