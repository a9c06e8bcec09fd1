"""Noticing that a client has gone while its request waits for something."""

import asyncio
import contextlib
from collections.abc import Callable, Generator

from starlette.types import Receive


@contextlib.contextmanager
def noticing(receive: Receive, leave: Callable[[], None]) -> Generator[None]:
    """Inside the block `leave` is called when the client has gone; the request's body must have been read."""
    listening = asyncio.create_task(_listen(receive, leave))
    try:
        yield
    finally:
        listening.cancel()


async def _listen(receive: Receive, leave: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    leave()
