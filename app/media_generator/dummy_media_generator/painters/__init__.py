"""The painters, each with the words that ask for it and the palettes that suit it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app.media_generator.dummy_media_generator.painters.agate import paint_agate
from app.media_generator.dummy_media_generator.painters.aurora import paint_aurora
from app.media_generator.dummy_media_generator.painters.bauhaus import paint_bauhaus
from app.media_generator.dummy_media_generator.painters.bloom import paint_bloom
from app.media_generator.dummy_media_generator.painters.dunes import paint_dunes
from app.media_generator.dummy_media_generator.painters.ink import paint_ink
from app.media_generator.dummy_media_generator.painters.mosaic import paint_mosaic
from app.media_generator.dummy_media_generator.painters.nebula import paint_nebula
from app.media_generator.dummy_media_generator.painters.papercut import paint_papercut
from app.media_generator.dummy_media_generator.painters.ridges import paint_ridges
from app.media_generator.dummy_media_generator.painters.skyline import paint_skyline
from app.media_generator.dummy_media_generator.painters.waves import paint_waves
from app.media_generator.dummy_media_generator.palettes import PALETTES, Floats

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.media_generator.dummy_media_generator.painters.scene import Scene


@dataclass(frozen=True, slots=True)
class Style:
    """One way to paint.

    Attributes:
        paint: Makes an image of shape (3, height, width), in sRGB from 0 to 1.
        words: What in a prompt asks for this style.
        palettes: What it is painted with when no word of the prompt names a palette.
        vignette: By which share the corners are darkened.
    """

    paint: Callable[[Scene], Floats]
    words: str
    palettes: tuple[str, ...] = PALETTES
    vignette: float = 0.12


STYLE_BOOK: Final[dict[str, Style]] = {
    "ridges": Style(
        paint_ridges,
        "ridge mountain mountains alps peak hill valley landscape mist misty fog foggy forest wood woods "
        "pine cabin himalaya volcano hike",
        ("dawn", "sunset", "forest", "arctic", "autumn", "night", "blossom", "fire"),
    ),
    "dunes": Style(
        paint_dunes,
        "dune desert sand sahara camel caravan oasis mars pyramid arabia savanna",
        ("desert", "sunset", "dawn", "autumn", "blossom", "fire"),
    ),
    "nebula": Style(
        paint_nebula,
        "nebula galaxy galaxies space cosmos cosmic universe star starry planet astronaut supernova orbit "
        "milky spaceship interstellar rocket",
        ("night", "sunset", "neon", "ocean", "fire", "lagoon", "jewel", "blossom"),
        0.2,
    ),
    "aurora": Style(
        paint_aurora,
        "aurora borealis northern polar arctic winter snow iceland norway fir night reindeer lapland",
        ("lagoon", "night", "neon", "ocean", "lagoon"),
        0.15,
    ),
    "waves": Style(
        paint_waves,
        "lighthouse wave sea ocean water beach coast sail ship boat island moonlight moonlit surf whale tide horizon "
        "harbour harbor lagoon sunset sunrise",
        ("ocean", "sunset", "night", "dawn", "lagoon", "fire", "blossom", "arctic"),
    ),
    "mosaic": Style(
        paint_mosaic,
        "mosaic stained glass window cathedral church tile kaleidoscope saint crystal gem jewel sun",
        ("jewel", "ocean", "sunset", "autumn", "lagoon", "blossom", "forest"),
    ),
    "ink": Style(
        paint_ink,
        "ink drawing line brush calligraphy pen sketch wind music flow dance abstract motion hair current",
        ("mono", "ocean", "autumn", "jewel", "pastel", "desert", "blossom", "lagoon"),
        0.06,
    ),
    "skyline": Style(
        paint_skyline,
        "skyline city town street building skyscraper tower urban downtown metropolis manhattan tokyo york "
        "london paris cyberpunk car neon",
        ("sunset", "night", "neon", "dawn", "ocean", "jewel"),
    ),
    "bloom": Style(
        paint_bloom,
        "bloom flower floral rose dahlia petal blossom garden spring tulip lotus peony bouquet orchid lily "
        "sunflower butterfly bee",
        ("blossom", "sunset", "jewel", "pastel", "autumn", "lagoon", "fire"),
        0.2,
    ),
    "bauhaus": Style(
        paint_bauhaus,
        "bauhaus geometric geometry poster shape circle square triangle pattern design logo modern minimal "
        "minimalist retro robot graphic",
        ("mono", "sunset", "ocean", "jewel", "autumn", "lagoon", "desert", "pastel"),
        0.04,
    ),
    "agate": Style(
        paint_agate,
        "agate marble stone gemstone geode mineral rock liquid fluid texture emerald sapphire ruby amber "
        "onyx malachite smoke",
        ("ocean", "jewel", "lagoon", "autumn", "blossom", "sunset", "arctic", "night"),
    ),
    "papercut": Style(
        paint_papercut,
        "papercut paper origami layer cave canyon dream topography map contour coral reef tunnel cloud portal",
        ("sunset", "ocean", "blossom", "lagoon", "pastel", "forest", "dawn", "fire"),
    ),
}
"""Every painter by its name."""
