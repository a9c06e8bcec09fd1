"""What a refusal of an OpenAI-like server means: its `code` says more than the status."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import msgspec

from app.core.http_client.protocol import OutgoingError
from app.media_generator.adapter_kit.http import from_answer
from app.media_generator.adapter_kit.lenient_json import UNREADABLE, members
from app.media_generator.errors import ContentRefusedError, CreditError, ProviderError

MAX_MESSAGE_BYTES: Final = 64 * 1024
"""Bytes of a refusal that are read."""
CONTENT: Final = frozenset({"moderation_blocked", "content_policy_violation", "content_filter"})
_CREDIT: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})


class _ErrorBody(msgspec.Struct):
    """`error` is an object, or with some servers a string; FastAPI says `detail`."""

    error: Any = None
    detail: Any = None
    message: Any = None


async def refusal(
    provider: str, status: int, headers: Mapping[str, str], chunks: AsyncIterator[bytes]
) -> ProviderError:
    """What an answer without a picture means.

    Args:
        provider: Its name, for the message.
        status: Of the answer; not a success.
        headers: Of the answer.
        chunks: Its body; that it breaks off changes nothing.
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
    certain = status < 500  # noqa: PLR2004 - the server's own failures may have cost money, whatever they say
    if certain and codes & CONTENT:
        return ContentRefusedError(text)
    if certain and codes & _CREDIT:
        return CreditError(text)
    return from_answer(provider, status, headers, message, spending=True)


def parse_refusal(body: bytes) -> tuple[set[str], str]:
    """The codes of a refusal and its message, as far as they can be read."""
    try:
        told = msgspec.json.decode(body, type=_ErrorBody)
    except UNREADABLE:
        return set(), body[:200].decode(errors="replace").strip()
    return codes_and_message(told.error or told.detail or told.message)


def codes_and_message(error: Any) -> tuple[set[str], str]:
    """The same of an `error` that is decoded already."""
    told = members(error)
    if told:
        codes = {told[name] for name in ("code", "type") if isinstance(told.get(name), str)}
        return codes, str(told.get("message") or told.get("code") or "")
    return set(), str(error or "")[:1000]
