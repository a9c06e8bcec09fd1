"""Who works on what: the orders of one model, begun when they are first asked for. Nothing here must survive."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from app.media_generator.errors import NotReachedError
from app.media_generator.local_media_generator.messages import Order
from app.media_generator.local_media_generator.process import ComputeProcess

KEPT: Final = 32
"""Finished files that wait to be fetched, before the oldest is dropped."""
CANCELED_KEPT: Final = 1000


class Work:
    """One order on its way."""

    def __init__(self, process: ComputeProcess, order: Callable[[], Awaitable[Order]]) -> None:
        self.progress = 0.0
        """0 to 1."""
        self.file = asyncio.create_task(self._make(process, order))

    async def _make(self, process: ComputeProcess, order: Callable[[], Awaitable[Order]]) -> bytes:
        try:
            complete = await order()
        except OSError as error:
            raise NotReachedError(f"the picture that was handed in cannot be read now: {error}") from error
        return await process.make(complete, self._tell)

    def _tell(self, share: float) -> None:
        self.progress = share


class Studio:
    """The orders of one model."""

    def __init__(self, process: ComputeProcess) -> None:
        self.process = process
        self._works: OrderedDict[str, Work] = OrderedDict()
        self._canceled: OrderedDict[str, None] = OrderedDict()
        """Whom `poll` tells that they were canceled; forgotten by a crash, and then they finish."""

    def work(self, name: str, order: Callable[[], Awaitable[Order]]) -> Work:
        """The work of that name, begun now if nobody had begun it."""
        work = self._works.get(name)
        if work is None:
            work = self._works[name] = Work(self.process, order)
            self._drop_oldest()
        return work

    def cancel(self, name: str) -> bool:
        """Stop a work, begun or not; False: it is finished."""
        work = self._works.get(name)
        if work is not None and work.file.done():
            return False
        self.forget(name)
        self._canceled[name] = None
        if len(self._canceled) > CANCELED_KEPT:
            self._canceled.popitem(last=False)
        return True

    def is_canceled(self, name: str) -> bool:
        """Whether it was stopped."""
        return name in self._canceled

    def forget(self, name: str) -> None:
        """Nobody wants it any more."""
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
