"""Keeps connections to public addresses: what `client.py` gives to aiohttp for guarded calls."""

import socket
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from app.core.http_client.addresses import is_public


class NotPublicError(OSError):
    """An address was refused; aiohttp wraps it in an error of its own, which needs a constant text."""

    def __init__(self) -> None:
        super().__init__("not a public address")


class PublicOnly(AbstractResolver):
    """Filters out addresses that are not public, so that a name with both kinds is reached at its public ones."""

    def __init__(self, names: AbstractResolver) -> None:
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The public addresses of a name.

        Raises:
            OSError: It has no address.
            NotPublicError: It has only other addresses.
        """
        found = await self._names.resolve(host, port, family)
        public = [result for result in found if is_public(result["host"])]
        if found and not public:
            raise NotPublicError
        return public

    async def close(self) -> None:
        """Do nothing: whoever created the resolver closes it."""


def public_socket(address: tuple[int, int, int, str, tuple[Any, ...]]) -> socket.socket:
    """Create the socket that is about to be connected to one address.

    Args:
        address: Family, kind, protocol, name, and the target: address, then port.
    """
    family, kind, protocol, _, place = address
    if not is_public(str(place[0])):
        raise NotPublicError
    return socket.socket(family, kind, protocol)
