"""The HTTP client for tests of providers: loopback addresses are allowed."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiohttp import ThreadedResolver

from app.core.http_client.client import HttpClient
from app.core.http_client.protocol import Http


@asynccontextmanager
async def open_http() -> AsyncGenerator[Http]:
    """A client that may call the tests' own servers."""
    client = HttpClient(allow_private_addresses=True, resolver=ThreadedResolver)
    try:
        yield client
    finally:
        await client.close()
