"""Parses answers of Cog models, self-hosted or at Replicate: outputs of any shape, and progress in the log."""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from app.media_generator.adapter_kit.file_places import Surety, distinct, place_in, places_of
from app.media_generator.adapter_kit.lenient_json import entries, error_text, members

MAX_FAILURE_CHARS: Final = 2_000
"""Characters."""
MAX_SECONDS: Final = 1e9
"""Longest plausible duration of a prediction."""
_PROGRESS: Final = re.compile(r"(\d{1,3})%\s*\|")


def progress(logs: str) -> float | None:
    """The last percentage of a progress bar like tqdm's, as 0 to 1; None: there is none."""
    found = _PROGRESS.findall(logs)
    return min(int(found[-1]), 100) / 100 if found else None


def predict_seconds(metrics: Mapping[str, Any] | None) -> float | None:
    """How long a prediction took, in seconds; None: it does not say, or nothing that can be true."""
    seconds = (metrics or {}).get("predict_time")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return None
    return float(seconds) if 0 <= seconds < MAX_SECONDS else None


def failure(error: Any, status: str) -> str:
    """Cog's error message, without the prefix that each of its layers repeats."""
    words = (
        error if isinstance(error, str) else error_text(error)
    ) or f"it ended as {status or 'nothing that it says'}"
    prefix, at = "".join(words.partition(": ")[:2]), 0
    while prefix.endswith(": ") and words.startswith(prefix, at + len(prefix)):
        at += len(prefix)
    return words[at : at + MAX_FAILURE_CHARS]


def files(output: Any, base: str) -> list[str]:
    """The files in an output of any shape, in order; if there are none, its text as a data URI.

    Args:
        output: Of a prediction.
        base: The URL of the prediction; relative addresses belong to it.
    """
    strings = [text for text in _strings(output) if text.strip()]
    found = list(places_of(output, partial(place_in, base=base)))
    # Pieces of a text may look like paths: those count only beside files, or where there is nothing else.
    if any(how is Surety.SURE for _, how in found) or (found and all(place_in(text, base=base) for text in strings)):
        return distinct(place for place, _ in found)
    if not strings:
        return []
    # A model that yields text returns it in pieces.
    text = "".join(_strings(output))
    return ["data:text/plain;charset=utf-8," + "".join(f"%{byte:02x}" for byte in text.encode())]


def kept_files(output: Any, given: Any, base: str) -> list[str]:
    """What clearly is a file in the output of a prediction that failed, and no echo of its input."""
    reader = partial(place_in, base=base)
    echoes = {place for place, _ in places_of(given, reader)}
    return distinct(place for place, how in places_of(output, reader) if how is Surety.SURE and place not in echoes)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for one in (*members(value).values(), *entries(value)):
        yield from _strings(one)
