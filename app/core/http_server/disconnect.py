"""Detects that a client has disconnected while its request waits for something."""

import asyncio
import contextlib
from collections.abc import Callable, Generator

from starlette.types import Receive

from app.core.http_server.timed_body import RequestTimeoutError


@contextlib.contextmanager
def on_disconnect(receive: Receive, callback: Callable[[], None]) -> Generator[None]:
    """Inside the block call `callback` when the client disconnects; if the route needs the body, read it before."""
    listening = asyncio.create_task(_listen(receive, callback))
    try:
        yield
    finally:
        listening.cancel()


async def _listen(receive: Receive, callback: Callable[[], None]) -> None:
    # Who drips a body that nobody reads is as good as gone.
    with contextlib.suppress(RequestTimeoutError):
        while (await receive())["type"] != "http.disconnect":
            pass
    callback()
