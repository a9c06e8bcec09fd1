"""What fal means by its refusals, and by what a model says in place of a result."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from app.media_generator.adapter_kit.http import from_answer
from app.media_generator.adapter_kit.lenient_json import UNREADABLE, entries, members
from app.media_generator.errors import (
    ContentRefusedError,
    ContentStoppedError,
    CreditError,
    GenerationFailedError,
    ProviderError,
)

_CONTENT: Final = frozenset({"content_policy_violation"})
_CREDIT: Final = ("exhausted balance", "insufficient balance", "top up your balance")
_MAX_MESSAGE_CHARS: Final = 1000
"""Characters of a message."""


class ErrorBody(msgspec.Struct):
    """The body of a refusal; `detail` is a sentence, or a list with an entry for each thing that is wrong."""

    detail: Any = None
    error: Any = None
    error_type: Any = None
    message: Any = None

    @property
    def kinds(self) -> set[str]:
        """Names of what is wrong."""
        given = [one.get("type") for one in self._details()]
        return {str(kind) for kind in (*given, self.error_type) if kind}

    @property
    def words(self) -> str:
        """The same for people."""
        told = "; ".join(self._sentence(one) for one in self._details())
        plain = self.detail if isinstance(self.detail, str) else self.error or self.message or ""
        # A gateway before fal may say `{"error": {"message": ...}}`.
        return (told or str(members(plain).get("message", plain)))[:_MAX_MESSAGE_CHARS]

    def _details(self) -> list[Mapping[str, Any]]:
        return [found for one in entries(self.detail) if (found := members(one))]

    @staticmethod
    def _sentence(one: Mapping[str, Any]) -> str:
        where = ".".join(str(part) for part in entries(one.get("loc")) if part != "body")
        return f"{where}: {one.get('msg', '')}" if where else str(one.get("msg", ""))


def parse_error(body: bytes) -> ErrorBody:
    """What a refusal says, as far as it can be read."""
    try:
        return msgspec.json.decode(body, type=ErrorBody)
    except UNREADABLE:
        return ErrorBody(detail=body[:200].decode(errors="replace").strip())


def refusal(provider: str, status: int, headers: Mapping[str, str], body: bytes, *, spending: bool) -> ProviderError:
    """What an answer means that is no success."""
    told = parse_error(body)
    text = f"{provider} answered {status}: {told.words}"
    if status in {400, 422} and told.kinds & _CONTENT:
        return ContentRefusedError(text)
    if status in {402, 403} and any(word in told.words.lower() for word in _CREDIT):
        return CreditError(text)
    return from_answer(provider, status, headers, told.words, spending=spending)


def failure(provider: str, told: ErrorBody) -> GenerationFailedError:
    """What a model says that has taken the request and brought no result."""
    kind = ContentStoppedError if told.kinds & _CONTENT else GenerationFailedError
    kinds = ", ".join(sorted(told.kinds))
    return kind(f"{provider} brought no result: {told.words or kinds or 'it does not say why'}")
