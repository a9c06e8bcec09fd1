"""Translates refusals of OpenAI-compatible servers: their `code` says more than the status."""

from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from app.core.http_client.protocol import OutgoingError
from app.media_generator.adapter_kit.http import REFUSALS, from_answer
from app.media_generator.adapter_kit.lenient_json import entries, error_text, members, parse
from app.media_generator.errors import ContentRefusedError, CreditError, ProviderError, UnreadableAnswerError

MAX_MESSAGE_BYTES: Final = 64 * 1024
"""Bytes that are read of an error message."""
CONTENT: Final = frozenset({"moderation_blocked", "content_policy_violation", "content_filter"})
_CREDIT: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})


async def refusal(
    provider: str, status: int, headers: Mapping[str, str], chunks: AsyncIterator[bytes]
) -> ProviderError:
    """The error for an unsuccessful answer.

    Args:
        provider: Its name, for the message.
        status: Of the answer.
        headers: Of the answer.
        chunks: Its body, which may be incomplete.
    """
    body = bytearray()
    try:
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_MESSAGE_BYTES:
                break
    except OutgoingError:
        body.clear()
    codes, message = parse_refusal(bytes(body))
    text = f"{provider} answered {status}: {message}"
    # After any other status the outcome is unknown, whatever its code.
    certain = status in REFUSALS or status == HTTPStatus.TOO_MANY_REQUESTS
    if certain and codes & CONTENT:
        return ContentRefusedError(text)
    if certain and codes & _CREDIT:
        return CreditError(text)
    # Key, quota, model and request are checked first: https://platform.openai.com/docs/guides/error-codes
    return from_answer(provider, status, headers, message, spending=True, unspent=REFUSALS)


def parse_refusal(body: bytes) -> tuple[set[str], str]:
    """The codes and message of a refusal, as far as they can be parsed."""
    try:
        fields = members(parse(body))
    except UnreadableAnswerError:
        return set(), body[:200].decode(errors="replace").strip()
    # FastAPI uses `detail`.
    return codes_and_message(fields.get("error") or fields.get("detail") or fields.get("message"))


def codes_and_message(error: Any) -> tuple[set[str], str]:
    """The codes and message of a decoded `error`: an object, with some servers a string or a list."""
    given = [fields.get(name) for fields in map(members, (error, *entries(error))) for name in ("code", "type")]
    return {code for code in given if isinstance(code, str)}, error_text(error)
