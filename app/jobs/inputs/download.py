"""Files that callers name by URL, fetched for providers that do not read URLs themselves.

A caller says where we go, so every call is guarded: no private, loopback or link-local address, whatever a name or a
redirect leads to. Redirects are few, bytes and time limited.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from http import HTTPStatus
from typing import Final
from urllib.parse import urljoin, urlsplit

from app.core.http_client.protocol import Http, InvalidRequestError, OutgoingError, RefusedAddressError, Request
from app.jobs.inputs.references import Url, read
from app.media_generator.adapter_kit.http import retry_after
from app.media_generator.errors import InputRefusedError, InputUnreachableError, ProviderError

MOST_REDIRECTS: Final = 3
PATIENCE: Final = 30.0
"""Seconds for the head of an answer, and for each piece of its body."""
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_LATER: Final = frozenset({408, 425, 429})


async def fetch(http: Http, url: str, *, allow_private: bool) -> AsyncGenerator[bytes]:
    """The bytes of a caller's file, as they come.

    Raises:
        InputRefusedError: They cannot be had: not there, not for us, or at an address where nobody may send us.
        InputUnreachableError: Not now.
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
        url = _allowed(url, target, allow_private=allow_private)
    raise InputRefusedError(f"the file of the input cannot be fetched: more than {MOST_REDIRECTS} redirects")


async def _next(chunks: AsyncIterator[bytes], url: str) -> bytes | None:
    try:
        async with asyncio.timeout(PATIENCE):
            return await anext(chunks, None)
    except TimeoutError:
        raise InputUnreachableError(f"{_host(url)} ceased to send the file of the input") from None


def _allowed(url: str, target: str, *, allow_private: bool) -> str:
    try:
        found = read(urljoin(url, target), allow_private=allow_private)
    except ValueError as fault:  # what cannot be joined as well as a ReferenceFaultError
        raise InputRefusedError(f"the file of the input cannot be fetched: a redirect's target {fault}") from None
    if not isinstance(found, Url):
        raise InputRefusedError("the file of the input cannot be fetched: it redirects to what is no URL")
    return found.url


def _refusal(url: str, status: int, wait: str) -> ProviderError:
    said = f"{_host(url)} answered {status} for the file of the input"
    if status in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return InputUnreachableError(said, retry_after=retry_after({"retry-after": wait}))
    return InputRefusedError(said)


def _host(url: str) -> str:
    """Paths may hold secrets."""
    return urlsplit(url).hostname or "the server"
