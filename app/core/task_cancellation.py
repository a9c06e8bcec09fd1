"""Ending background tasks for certain."""

import asyncio

_AGAIN_SECONDS = 1.0


async def end(*tasks: "asyncio.Task[None]") -> None:
    """Cancel tasks and wait until they are done, however they end.

    Once is not enough: a library whose time-out fires in the same moment may take the cancellation for its own.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)
