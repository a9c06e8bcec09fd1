"""The colours of the painter: palettes chosen by the words of a prompt, blended in OKLab."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from app.media_generator.dummy_media_generator.words import best_match, stable_number

Floats: TypeAlias = npt.NDArray[np.floating]
Integers: TypeAlias = npt.NDArray[np.integer]
Bools: TypeAlias = npt.NDArray[np.bool_]

_LINEAR_TO_LMS: Final = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LMS_TO_LAB: Final = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_LAB_TO_LMS: Final = np.linalg.inv(_LMS_TO_LAB)
_LMS_TO_LINEAR: Final = np.linalg.inv(_LINEAR_TO_LMS)

_SRGB_KNEE: Final = 0.04045
_LINEAR_KNEE: Final = 0.0031308
"""Where the straight part of sRGB's curve meets the power."""

TABLE_SIZE: Final = 2048
"""Entries of a colour table; fine enough that the dither of the finish hides its steps."""


def _to_oklab(srgb: Floats) -> Floats:
    """Convert sRGB colours to OKLab; the last axis holds the three channels."""
    linear = np.where(srgb <= _SRGB_KNEE, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear @ _LINEAR_TO_LMS.T) @ _LMS_TO_LAB.T, np.float64)


def _from_oklab(lab: Floats) -> Floats:
    """Convert OKLab colours to sRGB from 0 to 1, clipping what the screen cannot show."""
    linear = np.clip((lab @ _LAB_TO_LMS.T) ** 3 @ _LMS_TO_LINEAR.T, 0.0, 1.0)
    return np.where(linear <= _LINEAR_KNEE, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def parse(hexes: str) -> Floats:
    """Read colours such as "1b1035 ffd98a" into an array of shape (count, 3), from 0 to 1."""
    return np.array([[int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)] for code in hexes.split()])


def table(colours: Floats) -> Floats:
    """Blend evenly spaced colours of shape (count, 3) into a table of shape (3, TABLE_SIZE)."""
    lab = _to_oklab(colours)
    places = np.linspace(0.0, len(colours) - 1.0, TABLE_SIZE)
    stops = np.arange(len(colours))
    blended = np.stack([np.interp(places, stops, lab[:, channel]) for channel in range(3)], axis=-1)
    return _from_oklab(blended).T.astype(np.float32)


def mix(first: Floats, second: Floats, share: float) -> Floats:
    """Blend two colours of shape (3,); a share of 0 gives the first, 1 the second."""
    lab = _to_oklab(np.asarray(first, np.float64)) * (1 - share)
    return _from_oklab(lab + _to_oklab(np.asarray(second, np.float64)) * share).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Palette:
    """A family of colours that go together.

    Attributes:
        name: Also the first of the words that choose it.
        ramp: Table from the darkest to the lightest colour, of shape (3, TABLE_SIZE).
        accents: Vivid colours for single shapes, of shape (count, 3).
        light: What sun, moon and lamps shine with, of shape (3,).
        paper: A light ground for drawings, of shape (3,).
        ink: A dark colour for lines, of shape (3,).
    """

    name: str
    ramp: Floats
    accents: Floats
    light: Floats
    paper: Floats
    ink: Floats

    def shade(self, place: float) -> Floats:
        """Return the colour of the ramp at a place from 0 (dark) to 1 (light), of shape (3,)."""
        index = round(min(max(place, 0.0), 1.0) * (TABLE_SIZE - 1))
        return self.ramp[:, index]


@dataclass(frozen=True, slots=True)
class _Recipe:
    """A palette as it is written down: colours as hex codes, words that ask for it and words that hint."""

    ramp: str
    accents: str
    light: str
    words: str
    hints: str = ""


_RECIPES: Final[dict[str, _Recipe]] = {
    "sunset": _Recipe(
        "1a1038 4b1d63 9a2b6c e2555c fb9a50 ffdc95",
        "e2555c fb9a50 ffd166 8a2f86 2f3b86",
        "fff0c4",
        "sunset dusk evening sundown crimson marmalade romance",
    ),
    "ocean": _Recipe(
        "03142a 0a3358 0e6188 2a9ab2 86d2d0 eaf7ea",
        "0e6188 27b0b8 f6d68f ec7350 15406b",
        "fff6dc",
        "blue azure cobalt underwater",
        "ocean sea water wave river lake rain marine coast harbour harbor reef whale",
    ),
    "forest": _Recipe(
        "0a1813 153829 2c6046 669a5c b6d08c f5f2d0",
        "2c6046 86b460 e3c95a cd6f3f 1c4a40",
        "fdf6cf",
        "green moss fern olive",
        "forest wood woods pine fir tree garden meadow grass hill valley",
    ),
    "fire": _Recipe(
        "12050b 470c18 981a12 e04c12 fca022 ffecaa",
        "e04c12 fca022 ffd75e b01335 5a1030",
        "fff3c2",
        "fire flame lava volcano ember burning inferno hot red",
        "dragon phoenix",
    ),
    "night": _Recipe(
        "040615 0d1442 283180 5b5cba a0a8e8 f1edff",
        "5b5cba 8fb7ff f3c969 e07a9b 28317f",
        "fff6e0",
        "night midnight moon moonlight moonlit starry indigo",
        "star dream sleep",
    ),
    "autumn": _Recipe(
        "1d1016 56201f 9d3b20 d6772a edb44e f9e9c2",
        "c4472a e08e2f efc15a 7a2a33 3f5a4a",
        "fff1cc",
        "autumn fall october november harvest maple amber honey rust pumpkin orange",
    ),
    "pastel": _Recipe(
        "54568c 8c86bd c6a0cb f3b6c4 fbd6c2 fff5e4",
        "f2a2b4 f8cfa0 a9d8c6 a4b6e4 c6a0d6",
        "fffaf0",
        "pastel soft gentle candy sweet unicorn cotton delicate",
        "baby calm",
    ),
    "neon": _Recipe(
        "080320 280a62 7d12b4 f2229c ff7ab8 d6fbff",
        "f2229c 22d8f5 8b3dff ffe14d 2b4bff",
        "e8fdff",
        "neon cyberpunk synthwave vaporwave electric disco retro futuristic cyber arcade",
    ),
    "mono": _Recipe(
        "0a0b0e 292c31 54585f 8d9299 c8cbcd f7f6f2",
        "17181b 54585f 9da1a6 c8382c dcdcd8",
        "ffffff",
        "mono monochrome black white grey gray noir charcoal greyscale grayscale",
    ),
    "blossom": _Recipe(
        "27172f 692d5d ba4c84 f08fb0 fbc8d2 fff4ef",
        "e8578f f6a0b8 ffd3a8 8c4a9e 4e8f7a",
        "fff4e8",
        "blossom spring cherry rose pink sakura",
        "peony tulip orchid petal love",
    ),
    "arctic": _Recipe(
        "081a33 1c4876 4a88b8 92c1de d0e6f1 fcfeff",
        "2f6fa8 7fc0e0 d8eef6 f29f8e 1b3a63",
        "fff8ee",
        "arctic ice snow winter frost glacier frozen cold polar iceberg",
    ),
    "desert": _Recipe(
        "28131f 6c2e38 bc5d40 e59b5c f5cd90 fef2d6",
        "c85a3c eaa45a 2f7f86 f5d08f 6c2e48",
        "fff6dd",
        "terracotta sepia",
        "desert sand dune sahara canyon mesa caravan oasis savanna mars",
    ),
    "dawn": _Recipe(
        "182650 484a8c 966aa6 e38fa5 fcc0a2 fff2d2",
        "e38fa5 fcb98c 7d6fbf 4b8fb8 fbe0a0",
        "fff7dd",
        "dawn sunrise morning daybreak lavender violet purple lilac",
        "hope mist misty fog",
    ),
    "lagoon": _Recipe(
        "03211f 08504e 128c7e 58c792 c8e98e fff9c8",
        "12a08c 58d08f f9d65c ff7d5c 0a4f66",
        "fffbd8",
        "lagoon tropical turquoise teal emerald",
        "jungle aurora borealis northern caribbean parrot",
    ),
    "jewel": _Recipe(
        "0c0a24 2a1a5e 7a1f6e c83a4f f0a23c fbe9b0",
        "b81f45 1f5fae f0a92e 1f8f6a 6a2a9a",
        "fff2c8",
        "jewel ruby sapphire gold golden royal carnival",
        "stained cathedral treasure king queen",
    ),
}

PALETTES: Final[tuple[str, ...]] = tuple(_RECIPES)
_WORDS: Final = {name: tuple(recipe.words.split()) for name, recipe in _RECIPES.items()}
_HINTS: Final = {name: (name, *recipe.hints.split()) for name, recipe in _RECIPES.items()}


def palette_named(name: str) -> Palette:
    """Build the palette of a name out of `PALETTES`."""
    recipe = _RECIPES[name]
    ramp = parse(recipe.ramp)
    light = parse(recipe.light)[0]
    return Palette(
        name=name,
        ramp=table(ramp),
        accents=parse(recipe.accents).astype(np.float32),
        light=light.astype(np.float32),
        paper=mix(light, parse("f6efe2")[0], 0.7),
        ink=mix(ramp[0], parse("101014")[0], 0.35),
    )


def choose_palette(prompt: str, seed: int, favourites: tuple[str, ...] = PALETTES) -> str:
    """Name the palette a prompt asks for by its words, else one of the favourites by prompt and seed.

    Args:
        prompt: Any text, also an empty one.
        seed: Together with the prompt decides where no word does.
        favourites: Names out of `PALETTES` that suit the style.
    """
    # "Waves at sunset" is about the sea, but asks for the sunset's colours.
    named = best_match(prompt, _WORDS) or best_match(prompt, _HINTS)
    return named or favourites[stable_number("palette", prompt, seed) % len(favourites)]
