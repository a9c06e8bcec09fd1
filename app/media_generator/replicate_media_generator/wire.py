"""Predictions in Replicate's format, and what they mean. Makes no calls."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec

from app.media_generator.adapter_kit.cog_outputs import failure, files, progress
from app.media_generator.errors import GenerationFailedError, OutputGoneError
from app.media_generator.media_generator_model import (
    Canceled,
    Failed,
    Outcome,
    Output,
    Running,
    Succeeded,
)

UNFINISHED: Final = frozenset({"starting", "processing"})
CANCELED: Final = frozenset({"canceled", "aborted"})
MAX_LOG_CHARS: Final = 8_000
"""Characters of a prediction's log that are passed on, from its end."""

_RESETS_IN: Final = re.compile(r"resets in\s*~?\s*(\d{1,6})\s*s", re.IGNORECASE)


class Prediction(msgspec.Struct):
    """A prediction; other fields are ignored."""

    id: str
    status: str
    model: str | None = None
    version: str | None = None
    input: dict[str, Any] | None = None
    output: Any = None
    error: Any = None
    logs: str | None = None
    metrics: dict[str, Any] | None = None
    created_at: str = ""
    completed_at: str | None = None
    source: str | None = None
    webhook: str | None = None
    """The callback URL that it was requested with, where Replicate tells it."""
    data_removed: bool = False

    def outcome(self) -> Outcome:
        """Its state, as an outcome."""
        log = None if not self.logs else self.logs[-MAX_LOG_CHARS:]
        if self.status in UNFINISHED:
            return Running(progress(self.logs or ""), log=log)
        if self.status in CANCELED:
            return Canceled()
        if self.status != "succeeded":
            return Failed(GenerationFailedError(failure(self.error, self.status)))
        if self.data_removed:
            return Failed(OutputGoneError("Replicate has deleted the result: it keeps results for an hour"))
        outputs = tuple(Output(location) for location in files(self.output))
        return Succeeded(outputs, units=_units(self.metrics or {}, len(outputs)), log=log)


def wait_in_text(message: str) -> timedelta | None:
    """The wait that a refusal states in its message; None: none."""
    found = _RESETS_IN.search(message)
    return None if found is None else timedelta(seconds=int(found[1]))


def _units(metrics: Mapping[str, Any], outputs: int) -> dict[str, float]:
    units = {"output": float(outputs)}
    seconds = metrics.get("predict_time")
    if isinstance(seconds, int | float) and seconds >= 0:
        units["second"] = float(seconds)
    return units
