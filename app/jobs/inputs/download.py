"""Files that callers name by URL, fetched for providers that do not read URLs themselves.

The caller chooses the address, so every request is guarded: no private, loopback or link-local address, whatever a name
resolves to or a redirect points to. Redirects, bytes and time are limited.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from http import HTTPStatus
from typing import Final
from urllib.parse import urljoin, urlsplit

from app.core.http_client.protocol import Http, InvalidRequestError, OutgoingError, RefusedAddressError, Request
from app.jobs.inputs.references import Url, parse_reference
from app.media_generator.adapter_kit.http import retry_after
from app.media_generator.errors import InputRefusedError, InputUnreachableError, ProviderError

MOST_REDIRECTS: Final = 3
PATIENCE: Final = 30.0
"""Seconds for the head of an answer, and for each piece of its body."""
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_RETRYABLE_STATUSES: Final = frozenset({408, 425, 429})


async def fetch(http: Http, url: str, *, allow_private: bool) -> AsyncGenerator[bytes]:
    """The bytes of a caller's file, as they arrive.

    Raises:
        InputRefusedError: The file is missing, forbidden, or at an address that is not allowed.
        InputUnreachableError: It is unavailable now.
    """
    for _ in range(MOST_REDIRECTS + 1):
        request = Request(method="GET", url=url, timeout=PATIENCE)
        try:
            async with http.stream(request) as answer:
                if answer.status == HTTPStatus.OK:
                    while (chunk := await _next(answer.chunks, url)) is not None:
                        yield chunk
                    return
                if answer.status not in _REDIRECTS:
                    raise _refusal(url, answer.status, answer.headers.get("retry-after", ""))
                target = answer.headers.get("location", "")
        except (RefusedAddressError, InvalidRequestError) as error:
            raise InputRefusedError(f"the file of the input cannot be fetched: {error}") from error
        except OutgoingError as error:
            raise InputUnreachableError(f"the file of the input could not be fetched: {error}") from error
        url = _redirect_target(url, target, allow_private=allow_private)
    raise InputRefusedError(f"the file of the input cannot be fetched: more than {MOST_REDIRECTS} redirects")


async def _next(chunks: AsyncIterator[bytes], url: str) -> bytes | None:
    try:
        async with asyncio.timeout(PATIENCE):
            return await anext(chunks, None)
    except TimeoutError:
        raise InputUnreachableError(f"{_host(url)} stopped sending the file of the input") from None


def _redirect_target(url: str, target: str, *, allow_private: bool) -> str:
    try:
        found = parse_reference(urljoin(url, target), allow_private=allow_private)
    except ValueError as fault:  # of `urljoin`, or an InvalidReferenceError
        raise InputRefusedError(f"the file of the input cannot be fetched: a redirect's target {fault}") from None
    if not isinstance(found, Url):
        raise InputRefusedError("the file of the input cannot be fetched: it redirects to something that is not a URL")
    return found.url


def _refusal(url: str, status: int, wait: str) -> ProviderError:
    message = f"{_host(url)} answered {status} for the file of the input"
    if status in _RETRYABLE_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return InputUnreachableError(message, retry_after=retry_after({"retry-after": wait}))
    return InputRefusedError(message)


def _host(url: str) -> str:
    """The host alone: paths may hold secrets."""
    return urlsplit(url).hostname or "the server"
