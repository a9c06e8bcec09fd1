"""Translates refusals of OpenAI-compatible servers: their `code` says more than the status."""

from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from app.core.http_client.protocol import OutgoingError
from app.media_generator.adapter_kit.http import REFUSALS, from_answer
from app.media_generator.adapter_kit.lenient_json import UNREADABLE, members
from app.media_generator.errors import ContentRefusedError, CreditError, ProviderError

MAX_MESSAGE_BYTES: Final = 64 * 1024
"""Bytes that are read of an error message."""
CONTENT: Final = frozenset({"moderation_blocked", "content_policy_violation", "content_filter"})
_CREDIT: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})


class _ErrorBody(msgspec.Struct):
    """`error` is an object, or with some servers a string; FastAPI uses `detail`."""

    error: Any = None
    detail: Any = None
    message: Any = None


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
        parsed = msgspec.json.decode(body, type=_ErrorBody)
    except UNREADABLE:
        return set(), body[:200].decode(errors="replace").strip()
    return codes_and_message(parsed.error or parsed.detail or parsed.message)


def codes_and_message(error: Any) -> tuple[set[str], str]:
    """The codes and message of a decoded `error`."""
    fields = members(error)
    if fields:
        codes = {fields[name] for name in ("code", "type") if isinstance(fields.get(name), str)}
        return codes, str(fields.get("message") or fields.get("code") or "")
    return set(), str(error or "")[:1000]
