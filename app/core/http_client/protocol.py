"""Request and answer of a call to another service, and its errors; the client itself is in `client.py`.

This module loads no client: processes that never make calls stay 8 MiB smaller.

OutgoingError
├── NotSentError                nothing of the request reached the server; it may be sent again
│   ├── InvalidRequestError     it cannot be sent
│   ├── RefusedAddressError     its address is not public
│   ├── NameResolutionError     the host name was not resolved, or not in time
│   ├── ConnectError            no connection was accepted, or not in time
│   ├── ProxyError              the proxy was not reached, or let nothing through
│   └── TlsError                the server's identity was not proven
└── MaybeSentError              the request may have arrived and had its effect
    ├── AnswerTimeoutError      no complete answer in time
    ├── ConnectionLostError     the connection ended before the answer did
    ├── GatewayError            a proxy answered for the server, or the server behind it: nobody can tell
    └── InvalidAnswerError      the answer is not HTTP
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import ClassVar, NoReturn, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; it is sent at most once, and redirects are not followed."""

    method: str
    url: str
    """ASCII, percent-encoded. It is sent unchanged, so that signatures in it stay valid."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None
    timeout: float = 30.0
    """Seconds for everything: resolving the name, connecting, TLS, sending, and reading the whole answer."""
    most_bytes: int = 1024 * 1024
    """Bytes of the answer's body that are read; a longer one is truncated, and the connection closed."""
    keep_alive: bool = False
    """Whether a connection may be reused. Never for a billable request: on a connection that the server is just
    closing it is lost, and nothing tells whether it was processed. And only for answers that tell what they are about:
    one that a server sends twice may become the answer of the next request (`connections.py`)."""
    guarded: bool = True
    """Whether the connection must go to a public address. False is for addresses that the operator has set."""


def nothing_to_drop() -> None:
    """The connection of an answer that came on none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A complete answer, whatever its status."""

    status: int
    headers: Mapping[str, str]
    """Case-insensitive; of a repeated header the first."""
    body: bytes
    """As it was sent: compression is not requested, and nothing is decompressed."""
    truncated: bool
    """Whether there was more than `most_bytes`."""
    seconds: float
    """From the call to the end of the body."""
    drop_connection: Callable[[], None] = field(default=nothing_to_drop, repr=False, compare=False)
    """Never use the connection again on which it came: it was about something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The head of an answer, and its body as it arrives."""

    status: int
    headers: Mapping[str, str]
    """Case-insensitive; of a repeated header the first."""
    chunks: AsyncIterator[bytes]
    """The body, as it was sent; an OutgoingError if it ends early. No time-out applies."""


class Http(Protocol):
    """Makes calls: `HttpClient`, or `NoCalls` in a process that makes none."""

    async def send(self, request: Request) -> Answer:
        """Send a request and read the answer, whatever its status.

        Raises:
            OutgoingError: There is no answer; its class says whether the request may have arrived.
        """
        ...

    def stream(self, request: Request) -> AbstractAsyncContextManager[Stream]:
        """Send a request and read the head of its answer within `timeout`; the body is the caller's.

        Raises:
            OutgoingError: There is no answer; its class says whether the request may have arrived.
        """
        ...


class NoCalls:
    """For processes that only describe what providers offer, such as the API."""

    async def send(self, request: Request) -> Answer:
        """Refuse."""
        _refuse(request)

    def stream(self, request: Request) -> AbstractAsyncContextManager[Stream]:
        """Refuse."""
        _refuse(request)


def _refuse(request: Request) -> NoReturn:
    raise RuntimeError(f"this process makes no calls; a worker does: {request.method}")


class OutgoingError(Exception):
    """A call without an answer; the message gives the reason, without the URL's path, which may contain secrets."""

    may_have_arrived: ClassVar[bool]
    """Whether the request may have reached the server; if not, it may be repeated safely."""


class NotSentError(OutgoingError):
    """Nothing of the request reached the server."""

    may_have_arrived = False


class InvalidRequestError(NotSentError):
    """The URL or a header cannot be sent."""


class RefusedAddressError(NotSentError):
    """The host is, or resolves to, an address that is not public, and the call was guarded."""


class NameResolutionError(NotSentError):
    """No address was found for the host's name."""


class ConnectError(NotSentError):
    """No connection was established; this includes TLS."""


class ProxyError(NotSentError):
    """The proxy was not reached, refused the call, or cannot be used."""


class TlsError(NotSentError):
    """The server does not use TLS, or its certificate is not trusted."""


class MaybeSentError(OutgoingError):
    """There was a connection; whether the request arrived is unknown."""

    may_have_arrived = True


class AnswerTimeoutError(MaybeSentError):
    """The time-out ended before the answer was complete."""


class ConnectionLostError(MaybeSentError):
    """The connection ended before the answer did."""


class GatewayError(MaybeSentError):
    """A 502, 503 or 504 through a proxy that sees the request: its own, or the server's."""


class InvalidAnswerError(MaybeSentError):
    """The answer is not HTTP, or its head is too long."""
