"""Finds the prediction whose answer was lost in a list of predictions. Makes no calls.

Replicate stores no id of ours with a prediction. If it tells the callback URL, that proves whose a prediction is;
otherwise model, input and creation time say what may be it, and the engine, which knows whose the others are, decides.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Final, cast
from uuid import UUID

from app.media_generator.adapter_kit.lenient_json import entries
from app.media_generator.media_generator_model import Candidates, Reference
from app.media_generator.replicate_media_generator.wire import CANCELED, Prediction

_FILE: Final = re.compile(r"(?:https?|data|media|file):", re.IGNORECASE)
HIDDEN: Final = "hidden"
"""Stands in for a version that Replicate does not disclose."""


class Fit(IntEnum):
    """How well an input matches the submitted one; of several parts the worst match counts."""

    NO = 0
    EXCEPT_FILES = 1  # a file has a different URL in each attempt
    SAME = 2


@dataclass(frozen=True, slots=True)
class SubmittedPrediction:
    """The submission to look for."""

    attempt_id: UUID
    """Part of its callback URL, if it has one."""
    model: str
    version: str | None
    input: Mapping[str, Any]
    defaults: Mapping[str, Any]
    """Of the model's input, which Replicate may fill in."""
    earliest: datetime
    latest: datetime
    """Window of its creation time, if it was created."""

    def find(self, listed: Sequence[Prediction]) -> Reference | Candidates | None:
        """The prediction with our callback URL, or those that may be it; None: none may."""
        proven = [one for one in listed if one.webhook and str(self.attempt_id) in one.webhook]
        if proven:
            return Reference(proven[0].id)
        fits = {one.id: (self._fit(one), one) for one in listed if self._may_be(one)}
        same = [one for fit, one in fits.values() if fit is Fit.SAME and not _ended_badly(one)]
        doubts = {one.id: doubt for fit, one in fits.values() if (doubt := self._doubt(fit, one, any_same=bool(same)))}
        if not same and not doubts:
            return None
        alike = tuple(Reference(one.id) for one in same if one.id not in doubts)
        return Candidates(alike, tuple(map(Reference, doubts)), next(iter(doubts.values()), ""))

    def _fit(self, one: Prediction) -> Fit:
        return _fit(self.input, one.input or {})

    def _doubt(self, fit: Fit, one: Prediction, *, any_same: bool) -> str:
        """Why it cannot be told whether a prediction is the one; empty: there is no doubt."""
        if one.data_removed:
            return "its input was deleted, as after an hour"
        if fit is Fit.SAME and _ended_badly(one):
            return f"its status is {one.status!r}, so it is not adopted"
        if fit is Fit.SAME and (more := self._more(one)):
            return f"it has {more!r}, which was not submitted"
        if fit is Fit.EXCEPT_FILES and not any_same:
            return "its files cannot be compared"
        return ""

    def _more(self, one: Prediction) -> str | None:
        """A parameter that was not submitted, and is no default; None: there is none."""
        given = (one.input or {}).items()
        return next((name for name, value in given if self._is_more(name, value)), None)

    def _is_more(self, name: str, value: Any) -> bool:
        return name not in self.input and value is not None and value != self.defaults.get(name)

    def _may_be(self, one: Prediction) -> bool:
        # One with a callback URL of another attempt, or of somebody else, is not ours.
        if one.webhook or one.source == "web" or not self._is_model(one):
            return False
        # One whose times cannot be read may be it: the list is one of that time.
        created, ended = _time(one.created_at), _time(one.completed_at)
        if created is not None and not self.earliest <= created <= self.latest:
            return False
        return ended is None or ended >= self.earliest

    def _is_model(self, one: Prediction) -> bool:
        if self.version is None or one.version in {HIDDEN, None}:
            return one.model == self.model
        return one.version == self.version


def _time(text: str | None) -> datetime | None:
    """A time, in UTC where it says no other; None: there is none, or it cannot be read."""
    try:
        at = None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at is None or at.tzinfo is not None else at.replace(tzinfo=UTC)


def _ended_badly(one: Prediction) -> bool:
    return one.status == "failed" or one.status in CANCELED


def _fit(submitted: Any, listed: Any) -> Fit:
    if submitted == listed:
        return Fit.SAME
    if isinstance(submitted, str):
        return Fit.EXCEPT_FILES if isinstance(listed, str) and _FILE.match(submitted) else Fit.NO
    if isinstance(submitted, Mapping) and isinstance(listed, Mapping):
        ours, theirs = cast("Mapping[str, Any]", submitted), cast("Mapping[str, Any]", listed)
        # A null equals a missing value, and defaults that Replicate fills in are not compared.
        return min((_fit(value, theirs.get(name)) for name, value in ours.items()), default=Fit.SAME)
    if isinstance(submitted, list) and len(entries(submitted)) == len(entries(listed)):
        return min(map(_fit, entries(submitted), entries(listed)), default=Fit.SAME)
    return Fit.NO
