"""Group commit: the writes of many jobs share one statement, gathered while the previous one runs.

No timer: a lone write goes at once, so nothing is slower at rest.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_Entry: TypeAlias = tuple[Item, asyncio.Future[Result]]


class GroupCommit(Generic[Item, Result]):
    """Collects items and hands them to `write`, which answers with one result for each, in order.

    If `write` fails with one of `shared`, everybody in that round gets the error; any other error is one
    item's own fault, so the round is written again one by one. A caller that is cancelled while its item
    is being written does not stop the writing.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        shared: tuple[type[Exception], ...] = (),
        most: int = 500,
    ) -> None:
        self._write = write
        self._shared = shared
        self._most = most
        self._waiting: list[_Entry[Item, Result]] = []
        self._rounds: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """Write `item` with whatever else waits."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._rounds is None:
            self._rounds = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                entries, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                if not await self._round(entries):
                    for entry in entries:
                        await self._round([entry])
        finally:
            self._rounds = None

    async def _round(self, entries: Sequence[_Entry[Item, Result]]) -> bool:
        """Write once; False: it failed and nobody has been told yet."""
        try:
            results = await self._write([item for item, _ in entries])
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, self._shared) and len(entries) > 1:
                return False
            for _, future in entries:
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return True
        for (_, future), result in zip(entries, results, strict=True):
            if not future.done():
                future.set_result(result)
        return True
