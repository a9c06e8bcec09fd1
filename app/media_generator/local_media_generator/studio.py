"""The orders of one model in this process, started when they are first polled. Nothing here must survive a crash."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from app.media_generator.errors import NotReachedError
from app.media_generator.local_media_generator.messages import Order
from app.media_generator.local_media_generator.process import ComputeProcess

KEPT: Final = 32
"""Finished files that are kept until they are fetched; the oldest is dropped first."""
CANCELED_KEPT: Final = 1000


class Work:
    """One order in progress or finished."""

    def __init__(self, process: ComputeProcess, order: Callable[[], Awaitable[Order]]) -> None:
        self.progress = 0.0
        """0 to 1."""
        self.file = asyncio.create_task(self._make(process, order))

    async def _make(self, process: ComputeProcess, order: Callable[[], Awaitable[Order]]) -> bytes:
        try:
            complete = await order()
        except OSError as error:
            raise NotReachedError(f"the input picture cannot be read at the moment: {error}") from error
        return await process.make(complete, self._report)

    def _report(self, share: float) -> None:
        self.progress = share


class Studio:
    """The orders of one model."""

    def __init__(self, process: ComputeProcess) -> None:
        self.process = process
        self._works: OrderedDict[str, Work] = OrderedDict()
        self._canceled: OrderedDict[str, None] = OrderedDict()
        """Canceled orders, for `poll`; a crash forgets them, and then they finish."""

    def work(self, name: str, order: Callable[[], Awaitable[Order]]) -> Work:
        """The work of that id, started now if it was not."""
        work = self._works.get(name)
        if work is None:
            work = self._works[name] = Work(self.process, order)
            self._drop_oldest()
        return work

    def cancel(self, name: str) -> bool:
        """Cancel a work, started or not; False: it is finished."""
        work = self._works.get(name)
        if work is not None and work.file.done():
            return False
        self.forget(name)
        self._canceled[name] = None
        if len(self._canceled) > CANCELED_KEPT:
            self._canceled.popitem(last=False)
        return True

    def is_canceled(self, name: str) -> bool:
        """Whether it was canceled."""
        return name in self._canceled

    def forget(self, name: str) -> None:
        """Drop a work and its file."""
        work = self._works.pop(name, None)
        if work is not None:
            work.file.cancel()

    async def close(self) -> None:
        """Stop everything and end the process."""
        works = [work.file for work in self._works.values()]
        self._works.clear()
        await self.process.close()
        for file in works:
            file.cancel()
        await asyncio.gather(*works, return_exceptions=True)

    def _drop_oldest(self) -> None:
        finished = [name for name, work in self._works.items() if work.file.done()]
        for name in finished[:-KEPT]:
            del self._works[name]
