"""Parses results of fal's models: each has its own shape, all name files by URL."""

import re
from collections.abc import Sequence
from typing import Any, Final

from app.media_generator.adapter_kit.file_places import find_places

_PERCENT: Final = re.compile(r"(\d{1,3})%\|")


def files(result: Any, url: str) -> list[str]:
    """The places of the files in a result, in order and without duplicates.

    Args:
        result: Of any shape.
        url: Of the result.
    """
    return find_places(result, url)


def progress(lines: Sequence[str]) -> float | None:
    """The last progress bar in a log, 0 to 1; None: there is none."""
    for line in reversed(lines):
        bars = _PERCENT.findall(line)
        if bars:
            return min(int(bars[-1]), 100) / 100
    return None
