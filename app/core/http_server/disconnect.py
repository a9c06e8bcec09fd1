"""Detects that a client has disconnected while its request waits for something."""

import asyncio
import contextlib
from collections.abc import Callable, Generator

from starlette.types import Receive


@contextlib.contextmanager
def on_disconnect(receive: Receive, callback: Callable[[], None]) -> Generator[None]:
    """Inside the block call `callback` when the client disconnects; the request's body must have been read."""
    listening = asyncio.create_task(_listen(receive, callback))
    try:
        yield
    finally:
        listening.cancel()


async def _listen(receive: Receive, callback: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    callback()
