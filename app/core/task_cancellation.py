"""Cancels background tasks reliably."""

import asyncio

_REPEAT_SECONDS = 1.0


async def cancel_and_wait(*tasks: "asyncio.Task[None]") -> None:
    """Cancel tasks and wait until they are done, however they end.

    Once is not enough: a library whose time-out fires at the same moment may mistake the cancellation for it.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_REPEAT_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)
