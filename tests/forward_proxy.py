"""A forward proxy of the tests' own: CONNECT and absolute-form, with a password if there is one; it counts."""

import asyncio
import re
from base64 import b64encode
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

REFUSED = b"HTTP/1.1 %d Refused\r\nContent-Length: 0\r\nProxy-Authenticate: Basic realm=proxy\r\n\r\n"


class ForwardProxy:
    """Leads every host to a port of this machine; `passed` and `refused` are what it was asked for, in order."""

    def __init__(self, *, leads_to, password=None):
        self.leads_to = leads_to
        """The port on this machine for all hosts."""
        self.credentials = None if password is None else b64encode(f"me:{password}".encode()).decode()
        self.answers = None
        """A status with which it refuses everything; None: it passes things on. b"": it closes the connection."""
        self.heads = []
        self.passed = []
        self.refused = []
        self.port = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader, writer):
        with suppress(asyncio.IncompleteReadError, ConnectionError, OSError):
            while await self._one(reader, writer):
                pass
        writer.close()

    async def _one(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        method, target, _ = head.split("\r\n", 1)[0].split(" ")
        given = re.search(r"(?im)^proxy-authorization: basic (\S+)", head)
        if self.answers is not None:
            self.refused.append((method, target))
            writer.write(REFUSED % self.answers if self.answers else b"")
            return False
        if self.credentials is not None and (given is None or given[1] != self.credentials):
            self.refused.append((method, target))
            writer.write(REFUSED % 407)
            return False
        self.passed.append((method, target))
        there = await asyncio.open_connection("127.0.0.1", self.leads_to)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))
            return False
        path = urlsplit(target)._replace(scheme="", netloc="").geturl() or "/"
        rest = re.sub(r"(?im)^proxy-authorization:.*\r\n", "", head.split("\r\n", 1)[1])
        there[1].write(f"{method} {path} HTTP/1.1\r\n{rest}".encode() + await _body(reader, head))
        answered = (await there[0].readuntil(b"\r\n\r\n")).decode()
        writer.write(answered.encode() + await _body(there[0], answered))
        there[1].close()
        return True


async def _body(reader, head):
    """What its Content-Length announces."""
    length = re.search(r"(?im)^content-length: (\d+)", head)
    return b"" if length is None else await reader.readexactly(int(length[1]))


async def _pump(reader, writer):
    with suppress(ConnectionError, OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    with suppress(OSError, RuntimeError):
        writer.close()


@asynccontextmanager
async def forward_proxy(**options):
    """One that listens."""
    proxy = ForwardProxy(**options)
    listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = listening.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listening.close()
