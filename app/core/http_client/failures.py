"""Translates aiohttp's errors into ours, by how far the call of `client.py` had come."""

import os
import ssl
from time import monotonic

from aiohttp import (
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientHttpProxyError,
    ClientProxyConnectionError,
    ClientResponseError,
)

from app.core.http_client import protocol
from app.core.http_client.address_guard import NotPublicError
from app.core.http_client.proxies import Proxy


class Phase:
    """How far a call has come."""

    __slots__ = ("connected", "looking_up", "proxy", "started")

    def __init__(self) -> None:
        self.started = monotonic()
        self.looking_up = False
        self.connected = False
        self.proxy: Proxy | None = None
        """Through which the call goes."""


def timed_out(host: str | None, phase: Phase) -> protocol.OutgoingError:
    """The error for a time-out in this phase."""
    seconds = f"{monotonic() - phase.started:.1f} s"
    if phase.connected:
        return protocol.AnswerTimeoutError(f"{host} gave no complete answer within {seconds}")
    if phase.proxy is not None and not phase.looking_up:
        return protocol.ProxyError(f"no connection to {host} through the proxy {phase.proxy.place} within {seconds}")
    if phase.looking_up:
        return protocol.NameResolutionError(f"the name {host} was not resolved within {seconds}")
    return protocol.ConnectError(f"no connection to {host} within {seconds}")


def connection_lost(host: str | None) -> protocol.ConnectionLostError:
    """The error for a connection that ended during the call."""
    return protocol.ConnectionLostError(f"the connection to {host} was lost before its answer was complete")


def refused(host: str | None) -> protocol.RefusedAddressError:
    """The error for a host that is not public."""
    return protocol.RefusedAddressError(
        f"{host} leads to a private or loopback address; for development, set ALLOW_PRIVATE_ADDRESSES=true"
    )


def failure(host: str | None, phase: Phase, error: Exception) -> protocol.OutgoingError:
    """The error for one that aiohttp raised."""
    if phase.proxy is not None and not phase.connected and (refused := _by_proxy(host, phase.proxy, error)):
        return refused
    if isinstance(error, ClientConnectorError):
        return _not_connected(host, error, error.os_error)
    if not phase.connected:
        return protocol.ConnectError(f"no connection to {host}: {error}")
    if isinstance(error, ClientResponseError):
        return protocol.InvalidAnswerError(f"what {host} answered is not HTTP")
    return connection_lost(host)


def _by_proxy(host: str | None, proxy: Proxy, error: Exception) -> protocol.ProxyError | None:
    """The error where the proxy is what failed; None: the server behind it, whose TLS was begun."""
    if isinstance(error, ClientHttpProxyError):
        return protocol.ProxyError(f"the proxy {proxy.place} leads nowhere: it answered {error.status} for {host}")
    if isinstance(error, ClientProxyConnectionError | ClientConnectorDNSError):
        cause = error.os_error
        why = (os.strerror(cause.errno) if cause.errno and cause.errno > 0 else cause.strerror) or cause
        return protocol.ProxyError(f"no connection to the proxy {proxy.place}: {why}")
    if isinstance(error, ClientConnectorError):
        return None
    return protocol.ProxyError(f"the proxy {proxy.place} ended the connection to {host}")


def _not_connected(host: str | None, error: ClientConnectorError, cause: OSError) -> protocol.OutgoingError:
    """Most specific first; a cause's own text may contain private addresses, so it is not repeated."""
    if isinstance(cause, NotPublicError):
        return refused(host)
    if isinstance(error, ClientConnectorDNSError):
        return protocol.NameResolutionError(f"the name {host} was not resolved: {cause.strerror or cause}")
    if isinstance(cause, ssl.SSLCertVerificationError):
        return protocol.TlsError(f"the certificate of {host} is not trusted: {cause.verify_message}")
    if isinstance(cause, ssl.SSLError):
        return protocol.TlsError(f"no TLS connection to {host}: {cause.reason or 'it ended the handshake'}")
    why = os.strerror(cause.errno) if cause.errno else cause
    return protocol.ConnectError(f"no connection to {host}, port {error.port}: {why}")
