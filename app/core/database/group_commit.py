"""Group commit: the writes of many jobs share one statement, gathered while the previous one runs.

No timer: a lone write goes at once, so nothing is slower at rest.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

import structlog

log = structlog.get_logger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")
_Entry: TypeAlias = tuple[Item, asyncio.Future[Result]]

SHORTEST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
"""Seconds until a round is written again, while the other side is down."""


class GroupCommit(Generic[Item, Result]):
    """Collects items and passes them to `write`, which returns one result for each, in order.

    If `write` fails with one of `shared`, the whole round is affected: each caller gets the error or, with `persist`,
    the round is written again until it succeeds. Any other error is one item's own fault, so the round is written again
    one by one. A caller that is cancelled while its item is being written does not stop the writing.
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
            persist: Write again after a shared error.
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
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._rounds is None:
            self._rounds = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        pause = SHORTEST_PAUSE
        try:
            while self._waiting:
                entries, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                error = await self._round(entries)
                if error is not None and not isinstance(error, self._shared):
                    entries, error = await self._one_by_one(entries)
                if error is None:
                    pause = SHORTEST_PAUSE
                    continue
                log.warning("write_delayed", error=type(error).__name__)
                await asyncio.sleep(pause)
                # A caller that was cancelled meanwhile does not want its item written any more.
                self._waiting[:0] = [entry for entry in entries if not entry[1].done()]
                pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            self._rounds = None

    async def _one_by_one(
        self, entries: Sequence[_Entry[Item, Result]]
    ) -> tuple[list[_Entry[Item, Result]], Exception | None]:
        """The entries that have to be written again after a shared error, and that error."""
        for number, entry in enumerate(entries):
            if (error := await self._round([entry])) is not None:
                return list(entries[number:]), error
        return [], None

    async def _round(self, entries: Sequence[_Entry[Item, Result]]) -> Exception | None:
        """Write once; an error that no caller got, because the round has to be written again."""
        try:
            results = await self._write([item for item, _ in entries])
        except Exception as error:  # noqa: BLE001 - it goes to those whose items were written
            if self._persist if isinstance(error, self._shared) else len(entries) > 1:
                return error
            _fail(entries, error)
            return None
        except BaseException as error:
            _fail(entries, error)
            raise
        for (_, future), result in zip(entries, results, strict=True):
            if not future.done():
                future.set_result(result)
        return None


def _fail(entries: Sequence[_Entry[Item, Result]], error: BaseException) -> None:
    for _, future in entries:
        if not future.done():
            future.set_exception(error)
