"""Translates fal's refusals, and the errors that models return in place of a result."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from app.media_generator.adapter_kit.http import REFUSALS, from_answer
from app.media_generator.adapter_kit.lenient_json import entries, error_text, members, read
from app.media_generator.errors import (
    ContentRefusedError,
    ContentStoppedError,
    CreditError,
    GenerationFailedError,
    ProviderError,
    UnreadableAnswerError,
)

_CONTENT: Final = frozenset({"content_policy_violation"})
_CREDIT: Final = ("exhausted balance", "insufficient balance", "top up your balance")
_MAX_MESSAGE_CHARS: Final = 1000
"""Longest message that is passed on."""


class ErrorBody(msgspec.Struct):
    """The body of a refusal; `detail` is a sentence, or a list with one entry for each error."""

    detail: Any = None
    error: Any = None
    error_type: Any = None
    message: Any = None

    @property
    def kinds(self) -> set[str]:
        """Types of the errors."""
        given = [one.get("type") for one in self._details()]
        return {kind for kind in (*given, self.error_type) if isinstance(kind, str) and kind}

    @property
    def text(self) -> str:
        """The errors as readable text."""
        details = "; ".join(filter(None, (self._sentence(one) for one in self._details())))
        # A gateway in front of fal may answer `{"error": {"message": ...}}`.
        plain = error_text(self.detail) or error_text(self.error) or error_text(self.message)
        return (details or plain)[:_MAX_MESSAGE_CHARS]

    def _details(self) -> list[Mapping[str, Any]]:
        return [found for one in entries(self.detail) if (found := members(one))]

    @staticmethod
    def _sentence(one: Mapping[str, Any]) -> str:
        where = ".".join(str(part) for part in entries(one.get("loc")) if part != "body")
        text = error_text(one)
        return f"{where}: {text}" if where else text


def parse_error(body: bytes) -> ErrorBody:
    """The body of a refusal, as far as it can be parsed."""
    try:
        return read(body, ErrorBody)
    except UnreadableAnswerError:
        return ErrorBody(detail=body[:200].decode(errors="replace").strip())


def refusal(provider: str, status: int, headers: Mapping[str, str], body: bytes, *, spending: bool) -> ProviderError:
    """The error for an unsuccessful answer."""
    error = parse_error(body)
    text = f"{provider} answered {status}: {error.text}"
    if status in {400, 422} and error.kinds & _CONTENT:
        return ContentRefusedError(text)
    if status in {402, 403} and any(phrase in error.text.lower() for phrase in _CREDIT):
        return CreditError(text)
    # The queue checks key, balance, model and body before it takes a request: https://docs.fal.ai/model-apis/errors
    return from_answer(provider, status, headers, error.text, spending=spending, unspent=REFUSALS)


def failure(provider: str, error: ErrorBody) -> GenerationFailedError:
    """The error of a model that accepted the request and returned no result."""
    kind = ContentStoppedError if error.kinds & _CONTENT else GenerationFailedError
    kinds = ", ".join(sorted(error.kinds))
    return kind(f"{provider} returned no result: {error.text or kinds or 'no reason given'}")
