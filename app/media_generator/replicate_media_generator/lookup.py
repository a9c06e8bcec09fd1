"""Which prediction of a list is the one whose answer was lost. Nothing here calls anybody.

Replicate knows no name of ours for a prediction, so one is known by its model, its input and the time at which it was
made. Where that leaves a doubt nobody can say: a wrong "there is none" would buy it again.
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
"""Instead of the version, where Replicate does not tell it."""


class Fit(IntEnum):
    """How far what is there is what was asked for; of several parts the least counts."""

    NO = 0
    EXCEPT_FILES = 1  # a file is handed over under another name each time
    SAME = 2


@dataclass(frozen=True, slots=True)
class SubmittedPrediction:
    """What was submitted."""

    model: str
    version: str | None
    input: Mapping[str, Any]
    earliest: datetime
    latest: datetime
    """When it was made, if it was."""

    def match(self, listed: Sequence[Prediction]) -> Prediction | None:
        """The only one that it can be; None: it is none of them.

        Raises:
            AnswerLostError: It may be one of them, and nobody can say which, or whether.
        """
        candidates = [one for one in listed if self._may_be(one)]
        if any(one.data_removed for one in candidates):
            raise AnswerLostError("a prediction of that time may be this one: its input was removed, as after an hour")
        fits = [(_fit(self.input, one.input or {}), one) for one in candidates]
        same = [one for fit, one in fits if fit is Fit.SAME]
        if len(same) > 1:
            raise AnswerLostError("more than one prediction may be this one")
        if not same and any(fit is Fit.EXCEPT_FILES for fit, _ in fits):
            raise AnswerLostError("a prediction may be this one: nobody can say whether its files are the same")
        return same[0] if same else None

    def _may_be(self, one: Prediction) -> bool:
        made = datetime.fromisoformat(one.created_at)
        return one.source != "web" and self.earliest <= made <= self.latest and self._is_model(one)

    def _is_model(self, one: Prediction) -> bool:
        if self.version is None or one.version in {HIDDEN, None}:
            return one.model == self.model
        return one.version == self.version


def _fit(asked: Any, given: Any) -> Fit:
    if asked == given:
        return Fit.SAME
    if isinstance(asked, str):
        return Fit.EXCEPT_FILES if isinstance(given, str) and _FILE.match(asked) else Fit.NO
    if isinstance(asked, Mapping) and isinstance(given, Mapping):
        wanted, there = cast("Mapping[str, Any]", asked), cast("Mapping[str, Any]", given)
        # Null and nothing are one, and what Replicate fills in by itself is not asked for.
        return min((_fit(value, there.get(name)) for name, value in wanted.items()), default=Fit.SAME)
    if isinstance(asked, list) and len(entries(asked)) == len(entries(given)):
        return min(map(_fit, entries(asked), entries(given)), default=Fit.SAME)
    return Fit.NO
