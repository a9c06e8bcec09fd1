"""Servers for tests of outgoing HTTP, and resolvers that answer as the test says."""

import asyncio
import re
import socket
from contextlib import asynccontextmanager, suppress

from aiohttp.abc import AbstractResolver

from app.core.http_client.protocol import Request

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NEVER = 60.0


class HttpServer:
    """Answers each request with what the test says, and remembers what it saw."""

    def __init__(self, answer=OK):
        self.answer = answer
        self.connections = 0
        self.requests = []
        self.ended = asyncio.Queue()
        self.port = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                length = int((re.search(r"content-length: (\d+)", head.lower()) or ["", "0"])[1])
                self.requests.append((head, await reader.readexactly(length)))
                if callable(self.answer):
                    await self.answer(writer)
                else:
                    writer.write(self.answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self.ended.put_nowait(True)


@asynccontextmanager
async def running(server, host="127.0.0.1", tls=None):
    listening = await asyncio.start_server(server.serve, host, 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


class FixedResolver(AbstractResolver):
    """Answers each look-up with the next list of addresses, the last one for ever."""

    def __init__(self, *answers):
        self._answers = list(answers)

    async def resolve(self, host, port=0, family=socket.AF_UNSPEC):
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            {"hostname": host, "host": each, "port": port, "family": family, "proto": 0, "flags": 0} for each in answer
        ]

    async def close(self):
        pass


def post(url, **changes):
    return Request(**{"method": "POST", "url": url, "body": b"{}", "timeout": NEVER, **changes})
