"""What a call to another service is made of and how it may fail; the client that makes it is in `outgoing.py`.

This module loads no client: processes that describe calls and never make any stay 8 MiB smaller.

OutgoingError
├── NotSentError                nothing of the request reached the other side; it may be sent again
│   ├── InvalidRequestError     it cannot be sent as it is
│   ├── RefusedAddressError     it leads to an address that is not public
│   ├── NameResolutionError     the host's name has no address, or nobody says it in time
│   ├── ConnectError            nobody accepts a connection, or not in time
│   └── TlsError                the other side does not prove who it is
└── MaybeSentError              the request may have arrived and had its effect
    ├── AnswerTimeoutError      no complete answer in time
    ├── ConnectionLostError     the connection ended before the answer did
    └── InvalidAnswerError      what came is not HTTP
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import ClassVar, NoReturn, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; it is sent at most once, and redirects are not followed."""

    method: str
    url: str
    """Written out: ASCII, percent-encoded. It is sent as it stands, so that signatures in it stay valid."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None
    timeout: float = 30.0
    """Seconds for all of it: looking the name up, connecting, TLS, sending, and reading to the end of the answer."""
    most_bytes: int = 1024 * 1024
    """Bytes of the answer's body that are read; what is longer is cut, and the connection closed."""
    keep_alive: bool = False
    """Whether a connection may be used again. Never for what spends money: one that the other side is just
    closing loses the request, and nobody can say whether it was read."""
    guarded: bool = True
    """Whether the connection must lead to a public address. False is for addresses that the operator has set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back, whatever its status."""

    status: int
    headers: Mapping[str, str]
    """Names in any case; of a repeated header the first."""
    body: bytes
    """As it was sent: nothing is decompressed, and none is asked to compress."""
    truncated: bool
    """Whether there was more than `most_bytes`."""
    seconds: float
    """From the call to the end of the body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The head of an answer, and its body as it comes."""

    status: int
    headers: Mapping[str, str]
    """Names in any case; of a repeated header the first."""
    chunks: AsyncIterator[bytes]
    """Of the body, as it was sent; an OutgoingError if it breaks off before its end. Nothing limits its time."""


class Http(Protocol):
    """What makes calls: `HttpClient`, or in a process that calls nobody `NoCalls`."""

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
    """A call brought no answer; the message says what happened, without the URL's path, which may hold secrets."""

    may_have_arrived: ClassVar[bool]
    """Whether the request may have reached the other side; only where it has not may it be repeated blindly."""


class NotSentError(OutgoingError):
    """Nothing of the request reached the other side."""

    may_have_arrived = False


class InvalidRequestError(NotSentError):
    """The URL or a header cannot be sent."""


class RefusedAddressError(NotSentError):
    """The host is, or its name leads to, an address that is not public, and the call was guarded."""


class NameResolutionError(NotSentError):
    """No address was found for the host's name."""


class ConnectError(NotSentError):
    """No connection came about; TLS is part of it."""


class TlsError(NotSentError):
    """The other side speaks no TLS, or its certificate is not trusted."""


class MaybeSentError(OutgoingError):
    """A connection stood; whether the request arrived is not known."""

    may_have_arrived = True


class AnswerTimeoutError(MaybeSentError):
    """The time was over before the answer was complete."""


class ConnectionLostError(MaybeSentError):
    """The connection ended before the answer did."""


class InvalidAnswerError(MaybeSentError):
    """The answer is not HTTP, or its head is too long."""
