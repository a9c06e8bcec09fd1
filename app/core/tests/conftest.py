"""Fixtures for the HTTP client's tests: servers, clients and a DNS server of the test's own."""

import asyncio
import struct
from contextlib import AsyncExitStack

import pytest
from aiohttp import AsyncResolver

from app.core.http_client.client import HttpClient
from tests.http_servers import OK, HttpServer, running
from tests.listener import Listener


@pytest.fixture
async def start_server():
    """Starts servers of the test's own."""
    async with AsyncExitStack() as stack:

        async def start(answer=OK, **options):
            return await stack.enter_async_context(running(HttpServer(answer), **options))

        yield start


@pytest.fixture
async def make_client():
    """Makes clients; they are closed before the servers."""
    made = []

    def make(**options):
        made.append(HttpClient(**{"allow_private_addresses": False, **options}))
        return made[-1]

    yield make
    for each in made:
        await each.close()


class DnsServer(asyncio.DatagramProtocol):
    """A DNS server: `fast` names are at 127.0.0.1, `no` names do not exist, all others are never answered."""

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, place):
        name, end = [], 12
        while data[end]:
            name.append(data[end + 1 : end + 1 + data[end]])
            end += 1 + data[end]
        question = data[12 : end + 5]
        if name[0] not in {b"fast", b"no"}:
            return
        is_a = name[0] == b"fast" and struct.unpack("!H", question[-4:-2])[0] == 1
        head = data[:2] + struct.pack("!HHHHH", 0x8580 if name[0] == b"fast" else 0x8583, 1, int(is_a), 0, 0)
        record = struct.pack("!HHHIH4B", 0xC00C, 1, 1, 60, 4, 127, 0, 0, 1) if is_a else b""
        self.transport.sendto(head + question + record, place)


@pytest.fixture
async def dns_resolver():
    """Makes a resolver that queries the DNS server."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(DnsServer, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    yield lambda: AsyncResolver(nameservers=["127.0.0.1"], udp_port=port, lookups="b")
    transport.close()


@pytest.fixture
def listener():
    with Listener() as listening:
        yield listening
