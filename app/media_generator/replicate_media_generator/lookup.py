"""Finds the prediction whose answer was lost in a list of predictions. Makes no calls.

Replicate stores no id of ours with a prediction, so it is identified by model, input and creation time. If that is
ambiguous the outcome stays unknown: a wrong "there is none" would buy it again.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, Final, cast

from app.media_generator.adapter_kit.lenient_json import entries
from app.media_generator.errors import AnswerLostError
from app.media_generator.replicate_media_generator.wire import Prediction

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

    model: str
    version: str | None
    input: Mapping[str, Any]
    earliest: datetime
    latest: datetime
    """Window of its creation time, if it was created."""

    def match(self, listed: Sequence[Prediction]) -> Prediction | None:
        """The only prediction that matches; None: none does.

        Raises:
            AnswerLostError: It is ambiguous which prediction matches, or whether one does.
        """
        candidates = [one for one in listed if self._may_be(one)]
        if any(one.data_removed for one in candidates):
            raise AnswerLostError(
                "a prediction of that time may be this one, but its input was deleted, as after an hour"
            )
        fits = [(_fit(self.input, one.input or {}), one) for one in candidates]
        same = [one for fit, one in fits if fit is Fit.SAME]
        if len(same) > 1:
            raise AnswerLostError("more than one prediction may be this one")
        if not same and any(fit is Fit.EXCEPT_FILES for fit, _ in fits):
            raise AnswerLostError("a prediction may be this one, but its files cannot be compared")
        return same[0] if same else None

    def _may_be(self, one: Prediction) -> bool:
        created = datetime.fromisoformat(one.created_at)
        return one.source != "web" and self.earliest <= created <= self.latest and self._is_model(one)

    def _is_model(self, one: Prediction) -> bool:
        if self.version is None or one.version in {HIDDEN, None}:
            return one.model == self.model
        return one.version == self.version


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
