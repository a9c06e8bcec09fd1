"""Group commit: the writes of many jobs share one statement, gathered while the previous one runs.

No timer: a lone write goes at once, so nothing is slower at rest.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

import structlog

log = structlog.get_logger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")
_Entry: TypeAlias = tuple[Item, asyncio.Future[Result]]

SHORTEST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
"""Seconds until an item is written again, while the other side is down."""


class GroupCommit(Generic[Item, Result]):
    """Collects items and passes them to `write`, which returns one result for each, in order.

    If `write` fails with one of `shared`, everyone in that round gets the error; with `persist` each of them waits a
    moment and joins a later round, while new items are written at once. Any other error is one item's own fault, so the
    round is written again one by one. A caller that is cancelled while its item is being written does not stop the
    writing.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        shared: tuple[type[Exception], ...] = (),
        persist: bool = False,
        most: int = 500,
    ) -> None:
        """Prepare.

        Args:
            write: Must be safe to repeat, if `persist` is set.
            shared: Errors that are no item's fault.
            persist: Write an item again after a shared error, until it succeeds.
            most: Items in one round.
        """
        self._write = write
        self._shared = shared
        self._persist = persist
        self._most = most
        self._waiting: list[_Entry[Item, Result]] = []
        self._rounds: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """Write `item` with whatever else waits."""
        pause = SHORTEST_PAUSE
        while True:
            try:
                return await self._written(item)
            except self._shared as error:
                if not self._persist:
                    raise
                log.warning("write_delayed", error=type(error).__name__)
            # Spread, so that an item whose row is locked does not meet the same others in every round.
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            pause = min(pause * 2, LONGEST_PAUSE)

    def _written(self, item: Item) -> asyncio.Future[Result]:
        """The result of the next round."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._rounds is None:
            self._rounds = asyncio.create_task(self._run())
        return future

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
        """Write once; False: it failed, and no caller has been told yet."""
        try:
            results = _complete(await self._write([item for item, _ in entries]), len(entries))
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


def _complete(results: Sequence[Result], number: int) -> Sequence[Result]:
    """The results, one for each item: else a caller would wait for ever."""
    if len(results) != number:
        raise RuntimeError(f"{len(results)} results for {number} items")
    return results
