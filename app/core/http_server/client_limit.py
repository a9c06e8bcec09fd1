"""How often one client may do something that costs: counted in Redis, for all processes together.

A client is its address as the server has it: behind a proxy that is named in FORWARDED_ALLOW_IPS the one in
X-Forwarded-For, and of IPv6 the first 64 bits, of which one client has all. The count is of a fixed minute. While Redis
does not answer nobody is refused: what is limited has its own bound of how much is done at once.
"""

import ipaddress
from typing import TYPE_CHECKING, Final

import structlog
from redis.exceptions import RedisError
from starlette.requests import Request

from app.core.errors import FleekError

if TYPE_CHECKING:
    import redis.asyncio as redis

log = structlog.get_logger(__name__)

SECONDS: Final = 60
_NETWORK_BITS: Final = 64
"""Of IPv6, that one client has."""


class TooManyRequestsError(FleekError):
    """One client has asked too often."""

    status = 429
    code = "too_many_requests"
    title = "Too many requests"


class ClientLimit:
    """One limit; one object for each process."""

    def __init__(self, shared: "redis.Redis", name: str, per_minute: int) -> None:
        """See `ClientLimit`.

        Args:
            shared: Where it is counted.
            name: What is limited, as part of the key.
            per_minute: What one client may do in a minute; 0: not limited.
        """
        self._shared = shared
        self._prefix = f"fleek:limit:{name}:"
        self._most = per_minute

    async def count(self, request: Request) -> None:
        """Count a request of its client.

        Raises:
            TooManyRequestsError: The client has used up the minute; Retry-After says when the next one begins.
        """
        if not self._most:
            return
        key = self._prefix + client_of(request)
        pipeline = self._shared.pipeline(transaction=True)
        pipeline.set(key, 0, ex=SECONDS, nx=True)
        pipeline.incr(key)
        pipeline.ttl(key)
        try:
            _, count, left = await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("client_not_counted", error=repr(error))
            return
        if count > self._most:
            seconds = max(1, left)
            raise TooManyRequestsError(
                f"this address may do this {self._most} times a minute; try again in {seconds} seconds",
                headers={"Retry-After": str(seconds)},
            )


def client_of(request: Request) -> str:
    """What stands for the client of a request: its IPv4 address, or its network of IPv6."""
    host = "" if request.client is None else request.client.host
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host or "unknown"  # a Unix socket has no address
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if mapped is not None or isinstance(address, ipaddress.IPv4Address):
        return str(mapped or address)
    return str(ipaddress.ip_network((address, _NETWORK_BITS), strict=False))
