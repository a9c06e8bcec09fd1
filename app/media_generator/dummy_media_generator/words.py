"""Chooses by the words of a prompt, or at random but reproducibly."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def stable_number(*parts: str | int) -> int:
    """Digest parts into a number of 64 bits that is the same in every process."""
    text = "\x00".join(str(part) for part in parts)
    # A prompt may hold a lone surrogate out of JSON's escapes, which plain UTF-8 refuses.
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big")


def _singular(word: str) -> str:
    for ending, replacement in (("ies", "y"), ("oes", "o"), ("s", "")):
        if len(word) > len(ending) + 2 and word.endswith(ending) and not word.endswith("ss"):
            return word[: -len(ending)] + replacement
    return word


def _tokens(prompt: str) -> list[str]:
    return [_singular(word) for word in re.findall(r"[^\W_]+", prompt.lower())]


def best_match(prompt: str, words: Mapping[str, tuple[str, ...]]) -> str | None:
    """Name the entry most of whose words stand in the prompt; of equals, the one named first.

    Args:
        prompt: Any text; case and a plural's ending do not matter.
        words: For every name the single words that ask for it, in the singular or the plural.
    """
    tokens = _tokens(prompt)
    best: str | None = None
    best_rank = (0, 0)
    for name, candidates in words.items():
        wanted = {_singular(word) for word in candidates}
        places = [place for place, token in enumerate(tokens) if token in wanted]
        if places and (len(places), -places[0]) > best_rank:
            best, best_rank = name, (len(places), -places[0])
    return best
