"""A worker's writes: many jobs share one statement, and a write waits for a database that is down.

`@grouped`, `@fenced` and `@best_effort` turn a transition of many items into one of a single item: `await
complete(db, completion)` returns once it is committed. Items that arrive while a statement runs share the next one;
`complete.many(db, completions)` runs the statement at once. Every statement here is safe to repeat when its answer was
lost.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from app.core.database.pool import RETRYABLE, DatabasePool

Item = TypeVar("Item")
Result = TypeVar("Result")


class LeaseLostError(Exception):
    """Another worker has the media, or it has ended: nothing more may be written for it."""


class _Transition(Generic[Item, Result]):
    """A transition of many items, to be made one of a single item."""

    def __init__(self, many: Callable[[DatabasePool, Sequence[Item]], Awaitable[Sequence[Result]]]) -> None:
        self.many = many
        """The statement itself: one result for each item, in order."""
        self.__doc__ = many.__doc__


class GroupedTransition(_Transition[Item, Result]):
    """A transition of one item that shares its statement with others."""

    async def __call__(self, db: DatabasePool, item: Item) -> Result:
        """Write until the database has answered."""
        return await db.group_commit(self.many, persist=True)(item)


class FencedTransition(_Transition[Item, Result | None]):
    """A grouped transition that only the holder of the lease may make."""

    async def __call__(self, db: DatabasePool, item: Item) -> Result:
        """Write until the database has answered.

        Raises:
            LeaseLostError: The lease is lost; nothing was written.
        """
        result = await db.group_commit(self.many, persist=True)(item)
        if result is None or result is False:
            raise LeaseLostError
        return result


class BestEffortTransition(_Transition[Item, Result]):
    """A grouped transition that is dropped while the database is down."""

    async def __call__(self, db: DatabasePool, item: Item) -> None:
        """Write, or do not."""
        with suppress(*RETRYABLE):
            await db.group_commit(self.many)(item)


def grouped(
    many: Callable[[DatabasePool, Sequence[Item]], Awaitable[Sequence[Result]]],
) -> GroupedTransition[Item, Result]:
    """Make a transition of many items one of a single item."""
    return GroupedTransition(many)


def fenced(
    many: Callable[[DatabasePool, Sequence[Item]], Awaitable[Sequence[Result | None]]],
) -> FencedTransition[Item, Result]:
    """The same for a transition that returns None or False where the lease is lost."""
    return FencedTransition(many)


def best_effort(
    many: Callable[[DatabasePool, Sequence[Item]], Awaitable[Sequence[Result]]],
) -> BestEffortTransition[Item, Result]:
    """The same for a transition that may be lost."""
    return BestEffortTransition(many)
