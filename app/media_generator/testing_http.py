"""The product's client for other services, for tests of providers: loopback is allowed."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiohttp import ThreadedResolver

from app.core.http import Http
from app.core.outgoing import Outgoing


@asynccontextmanager
async def open_http() -> AsyncGenerator[Http]:
    """A client that may call servers of the tests."""
    client = Outgoing(allow_private_addresses=True, resolver=ThreadedResolver)
    try:
        yield client
    finally:
        await client.close()
