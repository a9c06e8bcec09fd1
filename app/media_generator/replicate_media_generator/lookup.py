"""Finds the prediction whose answer was lost in a list of predictions. Makes no calls.

Replicate stores no id of ours with a prediction. If it tells the callback URL, that proves whose a prediction is;
otherwise model, input and creation time say what may be it, and the engine, which knows whose the others are, decides.

A prediction is left out only if it is provably another one. What cannot be compared is doubtful, because "there is
none" lets the engine buy again.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from app.core import clock
from app.media_generator.media_generator_model import Candidates, Reference
from app.media_generator.replicate_media_generator.likeness import Fit, fit_of
from app.media_generator.replicate_media_generator.wire import Prediction

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)
_MODEL: Final = re.compile(r"(?:https?://[^/]+/)?([\w.-]+/[\w.-]+)(?:[:/?#].*)?", re.ASCII)
"""A model's name, as a URL and with a tag, too."""
_VERSION: Final = re.compile(r"[0-9a-f]{64}")
_GOOD: Final = frozenset({"starting", "processing", "succeeded"})
_FIRST_YEAR: Final = 2019
"""No prediction is older than Replicate."""
_FUTURE: Final = timedelta(days=1)
"""A later time than this from now is no time at all."""


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
        proven = [one for one in listed if self.attempt_id.hex in _uuids(one)]
        if proven:
            return Reference(proven[0].id)
        doubts = {one.id: self._doubt(one) for one in listed if not self._is_another(one)}
        if not doubts:
            return None
        alike = tuple(Reference(name) for name, doubt in doubts.items() if not doubt)
        doubtful = tuple(Reference(name) for name, doubt in doubts.items() if doubt)
        return Candidates(alike, doubtful, next(filter(None, doubts.values()), ""))

    def _is_another(self, one: Prediction) -> bool:
        """Whether it provably is another prediction: of another attempt, model, time or input."""
        if _uuids(one) or one.source == "web" or self._is_model(one) is False:
            return True
        created, ended = _time(one.created_at), _time(one.completed_at)
        if created is not None and not self.earliest <= created <= self.latest:
            return True
        if ended is not None and ended < self.earliest:
            return True
        return not one.data_removed and self._fit(one) is Fit.NO

    def _doubt(self, one: Prediction) -> str:
        """Why it cannot be told whether a prediction is the one; empty: there is no doubt."""
        fit, more = self._fit(one), self._more(one)
        doubts = (
            (one.data_removed, "its input was deleted, as after an hour"),
            (one.webhook is not None, "its callback URL is of no attempt"),
            (not self._is_model(one), "it does not say of which model it is"),
            (_time(one.created_at) is None, "it does not say when it was created"),
            (fit is Fit.EXCEPT_FILES, "its files cannot be compared"),
            (fit is not Fit.SAME, "its input cannot be compared"),
            (one.status not in _GOOD, f"its status is {one.status!r}, so it is not adopted"),
            (more is not None, f"it has {more!r}, which was not submitted"),
        )
        return next((why for is_so, why in doubts if is_so), "")

    def _fit(self, one: Prediction) -> Fit:
        return fit_of(self.input, one.input)

    def _more(self, one: Prediction) -> str | None:
        """A parameter that was not submitted, and is no default; None: there is none."""
        given = (one.input or {}).items()
        return next((name for name, value in given if self._is_more(name, value)), None)

    def _is_more(self, name: str, value: Any) -> bool:
        return name not in self.input and value is not None and value != self.defaults.get(name)

    def _is_model(self, one: Prediction) -> bool | None:
        """Whether it is of this model; None: it does not say, in a form that is known."""
        if self.version is not None and one.version is not None:
            version = one.version.strip().lower()
            if version == self.version.lower():
                return True
            if _VERSION.fullmatch(version) and _VERSION.fullmatch(self.version.lower()):
                return False
        named = _MODEL.fullmatch((one.model or "").strip())
        return None if named is None else named[1].lower() == self.model.lower()


def _uuids(one: Prediction) -> set[str]:
    """The ids in its callback URL; none: it has none, or it is masked."""
    return {found.replace("-", "").lower() for found in _UUID.findall(str(one.webhook or ""))}


def _time(text: str | None) -> datetime | None:
    """A time, in UTC where it says no other; None: there is none, it cannot be read, or it cannot be true."""
    try:
        at = None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return None
    if at is None or at.year < _FIRST_YEAR:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return at if at <= clock.now() + _FUTURE else None
