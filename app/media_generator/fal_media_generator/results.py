"""Parses results of fal's models: each has its own shape, all name files by URL."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from app.media_generator.adapter_kit.lenient_json import entries, members

_URL: Final = re.compile(r"https?://[^\s\"<>]+", re.ASCII)
_PERCENT: Final = re.compile(r"(\d{1,3})%\|")


def files(result: Any) -> list[str]:
    """The URLs in a result, in order and without duplicates.

    Files are objects with a `url`. If there are none, every string counts that is exactly a URL.
    """
    found = list(_objects(result)) or list(_strings(result))
    return list(dict.fromkeys(found))


def progress(lines: Sequence[str]) -> float | None:
    """The last progress bar in a log, 0 to 1; None: there is none."""
    for line in reversed(lines):
        bars = _PERCENT.findall(line)
        if bars:
            return min(int(bars[-1]), 100) / 100
    return None


def _objects(value: Any) -> Iterator[str]:
    url = members(value).get("url")
    if isinstance(url, str) and _URL.fullmatch(url):
        yield url
        return
    for one in _parts(value):
        yield from _objects(one)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str) and _URL.fullmatch(value):
        yield value
    for one in _parts(value):
        yield from _strings(one)


def _parts(value: Any) -> list[Any]:
    return [*members(value).values(), *entries(value)]
