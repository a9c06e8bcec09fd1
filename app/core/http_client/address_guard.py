"""Keeps connections to public addresses: what `outgoing.py` puts into aiohttp for calls that are guarded."""

import socket
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from app.core.http_client.addresses import is_public


class NotPublicError(OSError):
    """An address was refused; aiohttp hands it on inside an error of its own. Always the same text, so it does."""

    def __init__(self) -> None:
        super().__init__("not a public address")


class PublicOnly(AbstractResolver):
    """Leaves out what is not public, so that a name with both kinds is reached where it may be."""

    def __init__(self, names: AbstractResolver) -> None:
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The public addresses of a name.

        Raises:
            OSError: It has none at all.
            NotPublicError: It has others only.
        """
        found = await self._names.resolve(host, port, family)
        public = [result for result in found if is_public(result["host"])]
        if found and not public:
            raise NotPublicError
        return public

    async def close(self) -> None:
        """Nothing: who made the resolver closes it."""


def public_socket(address: tuple[int, int, int, str, tuple[Any, ...]]) -> socket.socket:
    """The socket for one address, just before it is connected to that address.

    Args:
        address: Family, kind, protocol, name, and what the socket will be connected to: the address, then the port.
    """
    family, kind, protocol, _, place = address
    if not is_public(str(place[0])):
        raise NotPublicError
    return socket.socket(family, kind, protocol)
