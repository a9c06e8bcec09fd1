"""The input of `dummy/faulty`: the caller chooses the failures, so that tests and demos are deterministic."""

from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

from app.media_generator.errors import (
    AnswerLostError,
    BusyError,
    CreditError,
    GenerationFailedError,
    InputRefusedError,
    ModelGoneError,
    NotReachedError,
    OutputError,
    ProviderError,
    UnauthorizedError,
)

ERRORS: Final = MappingProxyType(
    {
        "unreachable": NotReachedError,
        "busy": BusyError,
        "input_refused": InputRefusedError,
        "unauthorized": UnauthorizedError,
        "credit": CreditError,
        "model_gone": ModelGoneError,
        "answer_lost": AnswerLostError,
        "generation_failed": GenerationFailedError,
        "output_gone": OutputError,
    }
)
"""Errors that an input may request, by name."""

SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "delay": {
            "type": "number",
            "minimum": 0,
            "maximum": 3600,
            "default": 0,
            "description": "Seconds until the result is available.",
        },
        "fail_times": {
            "type": "integer",
            "minimum": 0,
            "maximum": 100,
            "default": 0,
            "description": "How many attempts fail before one succeeds.",
        },
        "fail_with": {
            "enum": sorted(ERRORS),
            "default": "unreachable",
            "description": "How those attempts fail.",
        },
        "retry_after": {
            "type": "number",
            "minimum": 0,
            "maximum": 3600,
            "default": 0,
            "description": "Seconds that a busy provider asks to wait.",
        },
        "lose_answer": {
            "enum": ["no", "taken", "not_taken", "unknown"],
            "default": "no",
            "description": "The first answer is lost; then the lookup finds the purchase, finds none, or fails.",
        },
        "hang": {"type": "boolean", "default": False, "description": "The result never comes."},
        "on_cancel": {
            "enum": ["canceled", "requested", "too_late"],
            "default": "canceled",
            "description": "Answer to a cancel request; after `requested` it stops a little later.",
        },
        "wrong_bytes": {
            "enum": ["no", "text", "truncated"],
            "default": "no",
            "description": "The result is not a picture, or half of one.",
        },
        "size": {
            "type": "integer",
            "minimum": 1000,
            "maximum": 50_000_000,
            "default": 10_000,
            "description": "Approximate size of the result in bytes.",
        },
        "num_outputs": {
            "type": "integer",
            "minimum": 1,
            "maximum": 8,
            "default": 1,
            "description": "Number of results.",
        },
    },
}


def planned_error(plan: dict[str, Any]) -> ProviderError:
    """The error that the failing attempts raise."""
    pause = timedelta(seconds=plan.get("retry_after", 0)) or None
    return ERRORS[plan.get("fail_with", "unreachable")]("simulated failure, as the input requests", retry_after=pause)
