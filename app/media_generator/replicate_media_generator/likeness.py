"""Compares a submitted input with a listed one, which may be hidden, cut, or typed otherwise. Makes no calls."""

import html
import re
from enum import IntEnum
from math import isclose, isfinite
from typing import Any, Final, cast

from app.media_generator.adapter_kit.lenient_json import entries, members

_FILE: Final = re.compile(r"(?:https?|data|media|file):", re.IGNORECASE)
_CUT: Final = re.compile(r"\u2026|\.{3}|\[")
"""Where a text may be cut: at an ellipsis, or at a note such as `[truncated]`."""
_NO_WORD: Final = re.compile(r"[\W_]+")
_MASKS: Final = frozenset(
    {"", "hidden", "redacted", "masked", "removed", "deleted", "null", "none", "undefined", "nan"}
)
_EXACT: Final = 2**53
"""Larger integers are rounded by many services."""
_ROUNDING: Final = 1e-6


class Fit(IntEnum):
    """How well an input matches the submitted one; of several parts the worst match counts."""

    NO = 0
    UNCLEAR = 1  # it is missing, hidden, cut, or of another type
    EXCEPT_FILES = 2  # a file has a different URL in each attempt
    SAME = 3


def fit_of(submitted: Any, listed: Any) -> Fit:
    """How well a listed value matches the submitted one; NO only if both say what they are, and clearly differ."""
    if submitted == listed and type(submitted) is type(listed):
        return Fit.SAME
    if submitted is None or listed is None:
        return Fit.UNCLEAR
    if isinstance(submitted, str) and isinstance(listed, str):
        return Fit.EXCEPT_FILES if _FILE.match(submitted) else _fit_of_texts(submitted, listed)
    if isinstance(submitted, dict) and isinstance(listed, dict):
        theirs = members(listed)
        # A null equals a missing value, and defaults that Replicate fills in are not compared.
        return min((fit_of(value, theirs.get(name)) for name, value in members(submitted).items()), default=Fit.SAME)
    if isinstance(submitted, list) and isinstance(listed, list):
        return _fit_of_lists(entries(submitted), entries(listed))
    return _fit_of_scalars(submitted, listed)


def _fit_of_lists(ours: list[Any], theirs: list[Any]) -> Fit:
    fit = min(map(fit_of, ours, theirs), default=Fit.UNCLEAR)
    if len(ours) == len(theirs):
        return fit
    # One that is shorter may be cut.
    return min(fit, Fit.UNCLEAR) if len(theirs) < len(ours) else Fit.NO


def _fit_of_texts(ours: str, theirs: str) -> Fit:
    if "\ufffd" in theirs or _words(theirs) in _MASKS:
        return Fit.UNCLEAR
    submitted = _words(ours)
    for text in (theirs, html.unescape(theirs)):
        begin, *_ = _CUT.split(text, maxsplit=1)
        words, beginning = _words(text), _words(begin)
        if submitted.startswith((words, beginning)) or words.startswith(submitted):
            return Fit.UNCLEAR
    return Fit.NO


def _words(text: str) -> str:
    """What remains of a text however its blanks, marks and cases are changed."""
    return _NO_WORD.sub("", text).casefold()


def _fit_of_scalars(ours: Any, theirs: Any) -> Fit:
    numbers = _number(ours), _number(theirs)
    if None in numbers:
        return Fit.UNCLEAR
    one, other = cast("tuple[float, float]", numbers)
    if isinstance(one, int) and isinstance(other, int) and max(abs(one), abs(other)) <= _EXACT:
        return Fit.NO
    return Fit.UNCLEAR if isclose(one, other, rel_tol=_ROUNDING) else Fit.NO


def _number(value: Any) -> float | None:
    """The number that a value is, or that its text is; None: none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if not isfinite(number):
        return None
    return number if isinstance(value, str) else value
