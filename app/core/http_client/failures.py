"""What a failed call of `outgoing.py` means: foreign errors end here, and each says how far the call had come."""

import os
import ssl
from time import monotonic

from aiohttp import ClientConnectorDNSError, ClientConnectorError, ClientResponseError

from app.core.http_client import protocol
from app.core.http_client.address_guard import NotPublicError


class Phase:
    """How far a call has come."""

    __slots__ = ("begun", "connected", "looking_up")

    def __init__(self) -> None:
        self.begun = monotonic()
        self.looking_up = False
        self.connected = False


def late(host: str | None, phase: Phase) -> protocol.OutgoingError:
    """What the time-out has ended."""
    seconds = f"{monotonic() - phase.begun:.1f} s"
    if phase.connected:
        return protocol.AnswerTimeoutError(f"{host} gave no complete answer within {seconds}")
    if phase.looking_up:
        return protocol.NameResolutionError(f"the name {host} was not resolved within {seconds}")
    return protocol.ConnectError(f"no connection to {host} within {seconds}")


def lost(host: str | None) -> protocol.ConnectionLostError:
    """The connection ended in the middle."""
    return protocol.ConnectionLostError(f"the connection to {host} was lost before its answer was complete")


def failure(host: str | None, phase: Phase, error: Exception) -> protocol.OutgoingError:
    """Foreign errors end here."""
    if isinstance(error, ClientConnectorError):
        return _not_connected(host, error, error.os_error)
    if not phase.connected:
        return protocol.ConnectError(f"no connection to {host}: {error}")
    if isinstance(error, ClientResponseError):
        return protocol.InvalidAnswerError(f"what {host} answered is not HTTP")
    return lost(host)


def _not_connected(host: str | None, error: ClientConnectorError, cause: OSError) -> protocol.OutgoingError:
    """Most specific first; a cause's own text may name addresses that are nobody's business."""
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
