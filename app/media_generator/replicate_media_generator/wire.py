"""Predictions in Replicate's format, and what they mean. Makes no calls."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec

from app.media_generator.adapter_kit.cog_outputs import failure, files, kept_files, predict_seconds, progress
from app.media_generator.errors import GenerationFailedError, OutputGoneError, UnreadableAnswerError
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

    id: str = ""
    status: str = ""
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
    webhook: Any = None
    """The callback URL that it was requested with, where Replicate tells it."""
    data_removed: bool = False

    def outcome(self, url: str) -> Outcome:
        """Its state, as an outcome.

        Args:
            url: Of the prediction.

        Raises:
            UnreadableAnswerError: It has no status that is known.
        """
        log = None if not self.logs else self.logs[-MAX_LOG_CHARS:]
        if self.status in UNFINISHED:
            return Running(progress(self.logs or ""), log=log)
        if self.status in CANCELED:
            return Canceled()
        if self.status == "failed":
            return self._failed(url, log)
        if self.status != "succeeded":
            raise UnreadableAnswerError(f"Replicate answered with the status {self.status[:100]!r}, which is unknown")
        if self.data_removed:
            return Failed(OutputGoneError("Replicate has deleted the result: it keeps results for an hour"))
        outputs = tuple(Output(location) for location in files(self.output, url))
        return Succeeded(outputs, units=_units(self.metrics, len(outputs)), log=log)

    def _failed(self, url: str, log: str | None) -> Outcome:
        """What was made before it failed was paid for, so it is the result."""
        error = failure(self.error, self.status)
        if not (found := kept_files(self.output, self.input, url)):
            return Failed(GenerationFailedError(error))
        log = f"{log or ''}\n{error}".strip()[-MAX_LOG_CHARS:]
        return Succeeded(tuple(map(Output, found)), units=_units(self.metrics, len(found)), log=log)


def wait_in_text(message: str) -> timedelta | None:
    """The wait that a refusal states in its message; None: none."""
    found = _RESETS_IN.search(message)
    return None if found is None else timedelta(seconds=int(found[1]))


def _units(metrics: Mapping[str, Any] | None, outputs: int) -> dict[str, float]:
    units, seconds = {"output": float(outputs)}, predict_seconds(metrics)
    return units if seconds is None else {**units, "second": seconds}
