"""The one HTTP client for other services. It loads aiohttp, so only processes that make calls import it.

The steps of a call:

1. The request is checked, without side effects.
2. The name is resolved without threads, so slow names do not delay others.
3. If the call is guarded, addresses that are not public are filtered out. The check is made where the socket for an
   address is created, so nothing bypasses it: neither a number that skips resolution nor a second DNS answer. Through a
   proxy (`proxies.py`), which resolves the name itself, the name is resolved here before, and must have only public
   addresses.
4. The connection and TLS are established. Until then every failure is a `NotSentError`.
5. The request is sent once. **From here on** every failure is a `MaybeSentError`.
6. The answer is read up to `most_bytes`. A connection is reused only after a complete answer that nothing followed
   (`connections.py`); if a call ends in any other way, cancellation included, its connection is closed.

Through a proxy, step 4 includes CONNECT for `https://`; an `http://` request is given to the proxy itself, so from then
on it may have arrived, also where the proxy answers 502, 503 or 504.

Certificates are always verified, against the system's store (SSL_CERT_FILE and SSL_CERT_DIR override it). netrc files
are ignored, and cookies are not kept.
"""

import re
import socket
import ssl
from asyncio import timeout
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache
from http import HTTPStatus
from importlib.metadata import version
from time import monotonic
from types import SimpleNamespace
from typing import Final

from aiohttp import (
    AsyncResolver,
    ClientConnectorError,
    ClientError,
    ClientHandlerType,
    ClientOSError,
    ClientRequest,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    ServerDisconnectedError,
    TCPConnector,
    TraceConfig,
)
from aiohttp.abc import AbstractResolver
from yarl import URL

from app.core.http_client import protocol
from app.core.http_client.address_guard import PublicOnly, public_socket
from app.core.http_client.addresses import is_address, is_public, malformed
from app.core.http_client.connections import KeptConnector, Response
from app.core.http_client.failures import Phase, connection_lost, failure, refused, timed_out
from app.core.http_client.protocol import Answer, Request, Stream, nothing_to_drop
from app.core.http_client.proxies import DIRECT, SETTING, Proxies, Proxy

MOST_CONNECTIONS: Final = 10_000
"""For each of the four kinds of session; callers have limits of their own, this one bounds the damage of a bug."""
MOST_PER_HOST: Final = 2_500
"""More than a worker's default slots: slow providers hold a connection for each job."""
KEEP_SECONDS: Final = 4.0
"""How long an idle connection is kept; many servers close theirs after 5, and a call on it would be lost."""
URLS_KEPT: Final = 1_000
NO_LIMIT: Final = ClientTimeout(total=None)
"""The only time-out is ours: a second one could not report which phase it ended."""
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t -~\x80-\xff]*")
_OF_GATEWAYS: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
_HEADERS: Final = {"User-Agent": f"Fleek/{version('fleek')}", "Accept-Encoding": "identity"}


async def _lookup_started(_session: ClientSession, context: SimpleNamespace, _event: object) -> None:
    context.trace_request_ctx.looking_up = True


async def _lookup_ended(_session: ClientSession, context: SimpleNamespace, _event: object) -> None:
    context.trace_request_ctx.looking_up = False


async def _connected(_session: ClientSession, context: SimpleNamespace, _event: object) -> None:
    context.trace_request_ctx.connected = True


def _phases() -> TraceConfig:
    trace = TraceConfig()
    trace.on_dns_resolvehost_start.append(_lookup_started)
    trace.on_dns_resolvehost_end.append(_lookup_ended)
    trace.on_connection_create_end.append(_connected)
    trace.on_connection_reuseconn.append(_connected)
    return trace


async def _once(request: ClientRequest, send: ClientHandlerType) -> ClientResponse:
    """Aiohttp resends a GET, PUT or DELETE when its connection is lost; hide that error from it."""
    try:
        return await send(request)
    except ClientConnectorError:
        raise
    except (ClientOSError, ServerDisconnectedError) as error:
        raise connection_lost(request.url.raw_host) from error


class HttpClient:
    """Calls other services; one for each process that does. Nothing is opened before the first call."""

    def __init__(
        self,
        *,
        allow_private_addresses: bool,
        proxies: Proxies = DIRECT,
        resolver: Callable[[], AbstractResolver] = AsyncResolver,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """See `HttpClient`.

        Args:
            allow_private_addresses: The setting; if set, no call is guarded.
            proxies: Which calls go through a proxy.
            resolver: Creates the DNS resolver, in the event loop of the first call.
            tls: Trusted certificates; None: the system's store.
        """
        self._allow_private = allow_private_addresses
        self._proxies = proxies
        self._make_resolver = resolver
        self._tls = tls
        self._names: AbstractResolver | None = None
        self._sessions: dict[tuple[bool, bool], ClientSession] = {}
        self._closed = False

    async def send(self, request: Request) -> Answer:
        """Send a request and read the answer, whatever its status.

        Raises:
            OutgoingError: There is no answer; its class says whether the request may have arrived.
            RuntimeError: The client is closed.
        """
        url, phase = self._ready(request), Phase()
        try:
            async with timeout(request.timeout):
                return await _read_answer(await self._begin(url, request, phase), request, phase)
        except TimeoutError as error:
            raise timed_out(url.raw_host, phase) from error
        except (ClientError, OSError, RuntimeError) as error:
            raise failure(url.raw_host, phase, error) from error

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[Stream]:
        """Send a request and read the head of its answer within `timeout`; the body is the caller's.

        Raises:
            OutgoingError: There is no answer; its class says whether the request may have arrived.
            RuntimeError: The client is closed.
        """
        url, phase = self._ready(request), Phase()
        try:
            async with timeout(request.timeout):
                response = await self._begin(url, request, phase)
        except TimeoutError as error:
            raise timed_out(url.raw_host, phase) from error
        except (ClientError, OSError, RuntimeError) as error:
            raise failure(url.raw_host, phase, error) from error
        try:
            yield Stream(status=response.status, headers=response.headers, chunks=_body(response, url, phase))
        finally:
            # After a complete body the connection is already released; otherwise it must not be reused.
            response.close()

    def _ready(self, request: Request) -> URL:
        """The URL as it will be sent; raises as `_checked`, and a RuntimeError after `close`."""
        if self._closed:
            raise RuntimeError("the client for other services is closed")
        return _checked(request)

    async def _begin(self, url: URL, request: Request, phase: Phase) -> ClientResponse:
        """Send a request, directly or through a proxy, and read the head of its answer."""
        guarded = request.guarded and not self._allow_private
        proxy = phase.proxy = self._proxies.choose(url.scheme, url.raw_host or "", url.port)
        headers, tunnel = request.headers, None
        if proxy is not None:
            if proxy.fault is not None:
                raise protocol.ProxyError(f"{proxy.variable} {proxy.fault}; set {SETTING}")
            if guarded:
                await self._refuse_unless_public(url, phase)
                guarded = False  # the connection is to the proxy, which the operator has set
            if proxy.authorization is not None:
                tunnel = {"Proxy-Authorization": proxy.authorization}
                headers = headers if url.scheme == "https" else {**headers, **tunnel}
        session = self._session(guarded=guarded, keep_alive=request.keep_alive)
        try:
            response = await session.request(
                request.method,
                url,
                headers=headers,
                data=request.body,
                allow_redirects=False,
                proxy=None if proxy is None else proxy.url,
                proxy_headers=tunnel,
                trace_request_ctx=phase,
            )
        except protocol.ConnectionLostError as error:
            if phase.connected:
                raise
            raise failure(url.raw_host, phase, error) from error
        if proxy is not None and url.scheme == "http":
            _refuse_word_of_proxy(response, url, proxy)
        return response

    async def _refuse_unless_public(self, url: URL, phase: Phase) -> None:
        """Ask the resolver what the proxy will ask.

        Raises:
            RefusedAddressError: The host has an address that is not public; the proxy could choose it.
            NameResolutionError: It has none, or only the proxy knows it.
        """
        host = url.raw_host or ""
        if is_address(host):
            found = [host]
        else:
            phase.looking_up = True
            try:
                answers = await self._resolver().resolve(host, url.port or 0, socket.AF_UNSPEC)
            except OSError as error:
                raise protocol.NameResolutionError(
                    f"the name {host} was not resolved: {error.strerror or error}"
                ) from error
            found = [answer["host"] for answer in answers]
            phase.looking_up = False
        if not found or not all(map(is_public, found)):
            raise refused(host)

    async def close(self) -> None:
        """Close all connections, including those of running calls."""
        self._closed = True
        for session in self._sessions.values():
            await session.close()
        if self._names is not None:
            await self._names.close()

    def _session(self, *, guarded: bool, keep_alive: bool) -> ClientSession:
        """Each kind has its own connections: one that was opened unguarded never serves a guarded call."""
        session = self._sessions.get((guarded, keep_alive))
        if session is None:
            session = self._sessions[guarded, keep_alive] = self._open(guarded=guarded, keep_alive=keep_alive)
        return session

    def _resolver(self) -> AbstractResolver:
        if self._names is None:
            self._names = self._make_resolver()
        return self._names

    def _open(self, *, guarded: bool, keep_alive: bool) -> ClientSession:
        names = self._resolver()
        connector = (KeptConnector if keep_alive else TCPConnector)(
            resolver=PublicOnly(names) if guarded else names,
            socket_factory=public_socket if guarded else None,
            ssl=self._tls or True,  # aiohttp creates its own context once for each process
            force_close=not keep_alive,
            keepalive_timeout=KEEP_SECONDS if keep_alive else None,
            limit=MOST_CONNECTIONS,
            limit_per_host=MOST_PER_HOST,
        )
        return ClientSession(
            connector=connector,
            headers=_HEADERS,
            skip_auto_headers=["Content-Type"],
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=NO_LIMIT,
            response_class=Response,
            middlewares=(_once,),
            trace_configs=[_phases()],
        )


def _checked(request: Request) -> URL:
    """The URL as it will be sent.

    Raises:
        InvalidRequestError: It or a header cannot be sent.
    """
    url = _read(request.url)
    for name, value in request.headers.items():
        if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            raise protocol.InvalidRequestError(f"the header {name!r} has a character that cannot be sent")
    return url


# A webhook receiver is called at the same URL repeatedly, and parsing it costs a tenth of a call.
@lru_cache(maxsize=URLS_KEPT)
def _read(url: str) -> URL:
    fault = malformed(url)
    if fault is not None:
        raise protocol.InvalidRequestError(f"the URL {fault}")
    try:
        return URL(url, encoded=True)
    except ValueError as error:
        raise protocol.InvalidRequestError(f"the URL cannot be read: {error}") from error


def _refuse_word_of_proxy(response: ClientResponse, url: URL, proxy: Proxy) -> None:
    """Refuse an answer that may be the proxy's own.

    Raises:
        ProxyError: It asks for a password: it has passed nothing on.
        GatewayError: Whether it has passed the request on is unknown.
    """
    status = response.status
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        response.close()
        raise protocol.ProxyError(f"the proxy {proxy.place} leads nowhere: it answered {status} for {url.raw_host}")
    if status in _OF_GATEWAYS:
        response.close()
        raise protocol.GatewayError(f"{status} for {url.raw_host}, from it or from the proxy {proxy.place}")


async def _body(response: ClientResponse, url: URL, phase: Phase) -> AsyncGenerator[bytes]:
    try:
        async for chunk in response.content.iter_any():
            yield chunk
    except (ClientError, OSError) as error:
        raise failure(url.raw_host, phase, error) from error


async def _read_answer(response: ClientResponse, request: Request, phase: Phase) -> Answer:
    async with response:
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > request.most_bytes:
                response.close()
                break
        truncated = len(body) > request.most_bytes
        del body[request.most_bytes :]
        return Answer(
            status=response.status,
            headers=response.headers,
            body=bytes(body),
            truncated=truncated,
            seconds=monotonic() - phase.started,
            drop_connection=response.drop_connection if isinstance(response, Response) else nothing_to_drop,
        )
