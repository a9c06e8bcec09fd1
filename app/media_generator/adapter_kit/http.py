"""Shared by HTTP adapters: which error a failure or status means for billing, and downloads of outputs."""

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from app.core import clock
from app.core.http_client.protocol import (
    Answer,
    Http,
    InvalidRequestError,
    NotSentError,
    OutgoingError,
    RefusedAddressError,
    Request,
    Stream,
)
from app.media_generator.adapter_kit.content_encodings import decoded_chunks
from app.media_generator.adapter_kit.file_places import absolute, is_same_origin
from app.media_generator.adapter_kit.promised_hashes import PromisedHashes
from app.media_generator.errors import (
    AnswerLostError,
    BusyError,
    CreditError,
    InputRefusedError,
    MissingOutputError,
    ModelGoneError,
    NotReachedError,
    OutputError,
    OutputGoneError,
    ProviderError,
    SuspectOutputError,
    UnauthorizedError,
    UnconfirmedOutputError,
)

MAX_REDIRECTS: Final = 5
MAX_RETRY_AFTER: Final = timedelta(hours=1)
"""Longest wait accepted from Retry-After."""
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_LENGTHS: Final = frozenset({"content-length", "transfer-encoding"})
"""Headers one of which says where an answer ends."""
_BUSY: Final = frozenset({429, 503, 529})
REFUSALS: Final[Mapping[int, type[ProviderError]]] = MappingProxyType(
    {
        400: InputRefusedError,
        401: UnauthorizedError,
        402: CreditError,
        403: UnauthorizedError,
        404: ModelGoneError,
        413: InputRefusedError,
        415: InputRefusedError,
        422: InputRefusedError,
    }
)
"""Statuses that most services decide before they spend anything; an adapter says so by passing them as `unspent`."""
_GONE: Final = 410
_EMPTY: Final = frozenset({204, 205})
_ALL_BYTES: Final = re.compile(r"bytes\s+0-([0-9]{1,18})/([0-9]{1,18})", re.IGNORECASE)
_TRANSIENT: Final = frozenset({408, 500, 502, 504})


def is_success(status: int) -> bool:
    """Whether a status says that the request was accepted: any of 200 to 299, whichever a gateway makes of it."""
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def from_outgoing(provider: str, error: OutgoingError, *, spending: bool) -> ProviderError:
    """The error for a call that got no answer.

    Args:
        provider: Its name, for the message.
        error: Of `Http`.
        spending: Whether the call is billable; otherwise it may be repeated.
    """
    if isinstance(error, NotSentError) or not spending:
        return NotReachedError(f"{provider}: {error}")
    return AnswerLostError(f"{provider}: {error}")


async def ask(http: Http, request: Request, *, provider: str) -> Answer:
    """Make a call that costs nothing.

    Raises:
        NotReachedError: There is no answer; the call may be repeated.
    """
    try:
        return await http.send(request)
    except OutgoingError as error:
        raise from_outgoing(provider, error, spending=False) from error


def from_answer(
    provider: str,
    status: int,
    headers: Mapping[str, str],
    message: str,
    *,
    spending: bool,
    unspent: Mapping[int, type[ProviderError]] = MappingProxyType({}),
) -> ProviderError:
    """The error for an unsuccessful status.

    After a billable call, "not sent" is a short list of proofs: 429, and what the adapter lists in `unspent`. Any other
    status leaves the outcome unknown: gateways answer 503 after they have delivered a request, too.

    Args:
        provider: Its name, for the message.
        status: Of the answer.
        headers: Of the answer.
        message: The provider's error message; may be empty.
        spending: Whether the call is billable; otherwise it may be repeated after a status that is no refusal.
        unspent: For a billable call, the statuses that the provider decides before it spends: `REFUSALS`, or more of
            which its documentation or source says so.
    """
    text = f"{provider} answered {status}" + (f": {message}" if message else "")
    wait = retry_after(headers)
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status in _BUSY and not spending):
        return BusyError(text, retry_after=wait)
    if spending:
        return unspent.get(status, AnswerLostError)(text, retry_after=wait)
    if status == _GONE:
        return ModelGoneError(text)
    return REFUSALS.get(status, NotReachedError)(text, retry_after=wait)


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """The wait that the provider requests; None: none, or unreadable."""
    given = headers.get("retry-after", "").strip()
    if given.isascii() and given.replace(".", "", 1).isdigit() and len(given) < len("1000000000"):
        return min(timedelta(seconds=float(given)), MAX_RETRY_AFTER)
    with suppress(ValueError, OverflowError, TypeError):
        wait = parsedate_to_datetime(given) - clock.now()
        return min(max(wait, timedelta(0)), MAX_RETRY_AFTER)
    return None


async def download(http: Http, request: Request, *, provider: str) -> AsyncGenerator[bytes]:
    """The bytes of an output, chunk by chunk; redirects are followed, each on a connection of its own.

    Only the request's own host gets its headers and may have a private address; redirects elsewhere go through the
    address guard. A body that is shorter than its Content-Length, or that differs from a hash in its headers, is an
    error after its last chunk.

    Raises:
        NotReachedError, BusyError: Fetch it again later.
        SuspectOutputError: It is missing or damaged now; a second fetch may bring it.
        OutputError: It is permanently gone, or its address is not allowed.
    """
    request = replace(request, keep_alive=False)
    for _ in range(MAX_REDIRECTS + 1):
        try:
            async with http.stream(request) as answer:
                if _brings_all(provider, answer):
                    promised = PromisedHashes(answer.headers)
                    async for chunk in decoded_chunks(answer.headers, promised.fed(answer.chunks)):
                        yield chunk
                    promised.check(provider)
                    # Such an answer ends with its connection, whatever has ended that.
                    if not (promised.proves or _LENGTHS & {name.lower() for name in answer.headers}):
                        raise UnconfirmedOutputError(f"the result of {provider} states no length")
                    return
                if answer.status not in _REDIRECTS:
                    raise _download_refusal(provider, answer.status, answer.headers)
                target = absolute(_text(answer.headers.get("location", "")), request.url)
        except (RefusedAddressError, InvalidRequestError, ValueError) as error:
            raise OutputError(f"{provider}: {error}") from error
        except OutgoingError as error:
            raise NotReachedError(f"{provider}: {error}") from error
        same = is_same_origin(target, request.url)
        request = replace(request, url=target) if same else replace(request, url=target, headers={}, guarded=True)
    raise OutputError(f"{provider} redirected too often for a result")


def _brings_all(provider: str, answer: Stream) -> bool:
    """Whether the body is the whole file, whatever status a gateway has made of 200; False: the status is no success.

    Raises:
        SuspectOutputError: It is a part of the file.
        MissingOutputError: There is no body.
    """
    if answer.status in _EMPTY:
        raise MissingOutputError(f"{provider} answered {answer.status} for a result, without one")
    if answer.status == HTTPStatus.PARTIAL_CONTENT:
        part = _ALL_BYTES.fullmatch(answer.headers.get("content-range", "").strip())
        if part is None or int(part[1]) + 1 != int(part[2]):
            raise SuspectOutputError(f"{provider} sent only a part of a result")
    return is_success(answer.status)


def _text(header: str) -> str:
    """A header with characters beyond ASCII: most servers write them in UTF-8, old ones in Latin-1."""
    raw = header.encode("utf-8", "surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _download_refusal(provider: str, status: int, headers: Mapping[str, str]) -> ProviderError:
    if status in _BUSY:
        return BusyError(f"{provider} answered {status} for a result", retry_after=retry_after(headers))
    if status in _TRANSIENT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return NotReachedError(f"{provider} answered {status} for a result")
    if status == HTTPStatus.GONE:
        return OutputGoneError(f"{provider} no longer has the result")
    return MissingOutputError(f"{provider} answered {status} for a result: it is gone, or access is denied")
