"""Paints a contact sheet of twenty pictures of `dummy/painter`: `python scripts/docs/gallery.py OUT.webp`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from PIL import Image

from app.media_generator.dummy_media_generator.painter import Painting, paint

PROMPTS: Final = (
    ("misty mountains at dawn", 1),
    ("aurora over a quiet lake", 5),
    ("a dahlia in full bloom, jewel colours", 3),
    ("the city at sunset", 4),
    ("moonlit ocean", 5),
    ("sahara dunes at sunset", 6),
    ("stained glass window of a golden morning sun", 7),
    ("emerald agate", 8),
    ("a galaxy on fire", 9),
    ("bauhaus poster, ocean blue", 10),
    ("paper canyon at sunset", 11),
    ("the wind, drawn in ink", 12),
    ("pine ridges, green mist", 13),
    ("neon city, midnight, cyberpunk", 14),
    ("pastel petals in a garden", 15),
    ("waves at sunset", 16),
    ("a nebula at midnight", 17),
    ("northern lights, neon sky", 18),
    ("a dance of ink, blue and gold", 19),
    ("coral reef cut from paper", 20),
)
COLUMNS: Final = 5
SIDE: Final = 320
GAP: Final = 8
RENDERED: Final = 640


def main() -> None:
    """Write the sheet to the path that is given, in the format its ending names."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the script and its one argument
        raise SystemExit("usage: uv run python scripts/docs/gallery.py OUT.webp")
    rows = -(-len(PROMPTS) // COLUMNS)
    size = (COLUMNS * (SIDE + GAP) - GAP, rows * (SIDE + GAP) - GAP)
    sheet = Image.new("RGB", size, "white")
    for index, (prompt, seed) in enumerate(PROMPTS):
        pixels = paint(Painting(prompt, seed, RENDERED, RENDERED), lambda _: None)
        picture = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        sheet.paste(picture, (index % COLUMNS * (SIDE + GAP), index // COLUMNS * (SIDE + GAP)))
    sheet.save(Path(sys.argv[1]), quality=88, method=6)


if __name__ == "__main__":
    main()
