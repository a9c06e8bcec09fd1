"""Translates aiohttp's errors into ours, by how far the call of `client.py` had come."""

import os
import ssl
from time import monotonic

from aiohttp import ClientConnectorDNSError, ClientConnectorError, ClientResponseError

from app.core.http_client import protocol
from app.core.http_client.address_guard import NotPublicError


class Phase:
    """How far a call has come."""

    __slots__ = ("connected", "looking_up", "started")

    def __init__(self) -> None:
        self.started = monotonic()
        self.looking_up = False
        self.connected = False


def timed_out(host: str | None, phase: Phase) -> protocol.OutgoingError:
    """The error for a time-out in this phase."""
    seconds = f"{monotonic() - phase.started:.1f} s"
    if phase.connected:
        return protocol.AnswerTimeoutError(f"{host} gave no complete answer within {seconds}")
    if phase.looking_up:
        return protocol.NameResolutionError(f"the name {host} was not resolved within {seconds}")
    return protocol.ConnectError(f"no connection to {host} within {seconds}")


def connection_lost(host: str | None) -> protocol.ConnectionLostError:
    """The error for a connection that ended during the call."""
    return protocol.ConnectionLostError(f"the connection to {host} was lost before its answer was complete")


def failure(host: str | None, phase: Phase, error: Exception) -> protocol.OutgoingError:
    """The error for one that aiohttp raised."""
    if isinstance(error, ClientConnectorError):
        return _not_connected(host, error, error.os_error)
    if not phase.connected:
        return protocol.ConnectError(f"no connection to {host}: {error}")
    if isinstance(error, ClientResponseError):
        return protocol.InvalidAnswerError(f"what {host} answered is not HTTP")
    return connection_lost(host)


def _not_connected(host: str | None, error: ClientConnectorError, cause: OSError) -> protocol.OutgoingError:
    """Most specific first; a cause's own text may contain private addresses, so it is not repeated."""
    if isinstance(cause, NotPublicError):
        return protocol.RefusedAddressError(
            f"{host} leads to a private or loopback address; for development, set ALLOW_PRIVATE_ADDRESSES=true"
        )
    if isinstance(error, ClientConnectorDNSError):
        return protocol.NameResolutionError(f"the name {host} was not resolved: {cause.strerror or cause}")
    if isinstance(cause, ssl.SSLCertVerificationError):
        return protocol.TlsError(f"the certificate of {host} is not trusted: {cause.verify_message}")
    if isinstance(cause, ssl.SSLError):
        return protocol.TlsError(f"no TLS connection to {host}: {cause.reason or 'it ended the handshake'}")
    why = os.strerror(cause.errno) if cause.errno else cause
    return protocol.ConnectError(f"no connection to {host}, port {error.port}: {why}")
