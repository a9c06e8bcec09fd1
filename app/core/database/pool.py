"""The pool of database connections: single statements in autocommit, directly through asyncpg.

Without the reset round trip of asyncpg's own pool: no statement here leaves state in the session. A connection whose
query was interrupted is discarded, and so is one that the database has ended while it was idle: the socket is looked at
before anything is sent. Nothing that was sent is sent again here; only an operation that reads is, see `route.py`.
"""

import asyncio
import select
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar
from uuid import UUID

import asyncpg

from app.core import clock
from app.core.database.group_commit import GroupCommit
from app.core.database.rows import Row

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

Item = TypeVar("Item")
Result = TypeVar("Result")
RowType = TypeVar("RowType", bound=Row)

STATEMENTS_KEPT: Final = 100
"""Prepared statements that one connection keeps."""

UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.PostgresSystemError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,
    asyncpg.InternalClientError,
)
"""What asyncpg raises when the database is down, restarting, full or failing over, rather than the statement wrong."""


RETRYABLE = (*UNAVAILABLE, asyncpg.TransactionRollbackError, asyncpg.LockNotAvailableError)
"""Errors after which the same statement may succeed."""


CONNECTION_LOST = (
    ConnectionResetError,
    BrokenPipeError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)
"""Errors of a connection that had ended, or ended under the statement: a statement that changes nothing may be sent
again. Whether one that changes something was executed is unknown."""


class Change(NamedTuple):
    """A media item that has changed."""

    media_id: UUID
    owner_id: UUID


NO_OWNER: Final = UUID(int=0)
"""The owner in a change that only subscribers of this one media item receive."""


class ChangeListener(Protocol):
    """Called after each commit that changed media."""

    def __call__(self, changes: Collection[Change], *, deliveries_due: bool) -> None:
        """Notify subscribers, without waiting; `deliveries_due`: webhook deliveries were written."""
        ...


def _ignore_changes(changes: Collection[Change], *, deliveries_due: bool) -> None:
    """Notify nobody."""


class DatabasePool:
    """At most `size` connections to one database, opened when needed, the last used first."""

    def __init__(
        self,
        dsn: str,
        *,
        size: int,
        statement_seconds: float = 30.0,
        connect_seconds: float = 5.0,
        prepared: bool = True,
    ) -> None:
        self._dsn = dsn
        # If 0, each statement is sent with its text, so any session can run it.
        self._statements_kept = STATEMENTS_KEPT if prepared else 0
        self._statement_seconds = statement_seconds
        self._connect_seconds = connect_seconds
        self._idle: list[Connection] = []
        self.size = size
        self._free = size
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.on_change: ChangeListener = _ignore_changes
        """Notified of changes; set by the process, see `change_channel.py`."""
        self._group_commits = dict[Any, Any]()
        self.waits = 0
        """Statements that had to wait for a connection."""
        self.failed_at = 0.0
        """When a statement last failed because the database was not available, by `clock.seconds`."""

    @property
    def in_use(self) -> int:
        """Connections that are running a statement."""
        return self.size - self._free

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """All rows of one statement."""
        return await self._use(lambda connection: connection.fetch(query, *args))

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        """The first row of one statement, if it has any."""
        return await self._use(lambda connection: connection.fetchrow(query, *args))

    async def fetch_as(self, row_type: type[RowType], query: str, *args: Any) -> list[RowType]:
        """All rows of one statement as values of `row_type`, a Row."""
        records = await self._use(lambda connection: connection.fetch(query, *args))
        return [_typed(row_type, record) for record in records]

    async def fetchrow_as(self, row_type: type[RowType], query: str, *args: Any) -> RowType | None:
        """The first row of one statement as a value of `row_type`, a Row, if it has any."""
        record = await self._use(lambda connection: connection.fetchrow(query, *args))
        return None if record is None else _typed(row_type, record)

    async def execute(self, query: str, *args: Any) -> str:
        """Run one statement; returns PostgreSQL's command tag."""
        return await self._use(lambda connection: connection.execute(query, *args))

    async def fetch_in_turn(self, lock: int, query: str, *args: Any) -> list[asyncpg.Record]:
        """All rows of one statement that sees the writes of all earlier ones under the same `lock`."""

        async def in_turn(connection: "Connection") -> list[asyncpg.Record]:
            async with connection.transaction():
                # Separate statements: the snapshot of the next one is taken after the wait. A frozen holder loses
                # the lock, and waiting for it is bounded.
                await connection.execute(
                    "SET LOCAL idle_in_transaction_session_timeout = '3s'; SET LOCAL lock_timeout = '2s'; "
                    f"SELECT pg_advisory_xact_lock({lock:d})"
                )
                return await connection.fetch(query, *args)

        return await self._use(in_turn)

    async def fetch_in_turn_as(self, row_type: type[RowType], lock: int, query: str, *args: Any) -> list[RowType]:
        """The same as values of `row_type`, a Row."""
        return [_typed(row_type, record) for record in await self.fetch_in_turn(lock, query, *args)]

    def group_commit(
        self,
        write: Callable[["DatabasePool", Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        persist: bool = False,
    ) -> GroupCommit[Item, Result]:
        """What gathers the calls of `write` on this database, made at its first use; see `GroupCommit`."""
        group = self._group_commits.get(write)
        if group is None:
            group = GroupCommit(partial(write, self), shared=RETRYABLE, persist=persist)
            self._group_commits[write] = group
        return group

    async def close(self) -> None:
        """Close idle connections; call it when none is in use any more."""
        while self._idle:
            await self._idle.pop().close(timeout=2)

    async def _use(self, call: Callable[["Connection"], Awaitable[Result]]) -> Result:
        try:
            connection = await self._take()
        except UNAVAILABLE:
            self.failed_at = clock.seconds()
            raise
        try:
            result = await call(connection)
        except BaseException as error:
            if isinstance(error, UNAVAILABLE):
                self.failed_at = clock.seconds()
            if isinstance(error, CONNECTION_LOST):
                self._drop_idle()
            if isinstance(error, asyncpg.PostgresError) and not isinstance(error, UNAVAILABLE):
                self._give(connection)
                raise
            # The result of an interrupted query could arrive as the result of the next one.
            connection.terminate()
            self._release()
            raise
        self._give(connection)
        return result

    async def _take(self) -> "Connection":
        if self._free == 0:
            await self._wait()
        else:
            self._free -= 1
        while self._idle:
            connection = self._idle.pop()
            if connection.is_closed():
                continue
            if not _has_unread(connection):
                return connection
            connection.terminate()
        try:
            return await asyncpg.connect(
                self._dsn,
                timeout=self._connect_seconds,
                command_timeout=self._statement_seconds,
                statement_cache_size=self._statements_kept,
                server_settings={"application_name": "fleek"},
            )
        except BaseException:
            self._release()
            raise

    async def _wait(self) -> None:
        """Wait for a slot; it is passed on directly when released, so waiters are served in order."""
        self.waits += 1
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._release()
            raise

    def _drop_idle(self) -> None:
        """Close what is idle: what ended one connection, such as a restart, has mostly ended the others."""
        while self._idle:
            self._idle.pop().terminate()

    def _give(self, connection: "Connection") -> None:
        if not connection.is_closed():
            self._idle.append(connection)
        self._release()

    def _release(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


def _has_unread(connection: "Connection") -> bool:
    """Whether something arrived that no statement asked for, as a rule the end, and the event loop has not read it."""
    transport: asyncio.Transport | None = getattr(connection, "_transport", None)
    socket = None if transport is None else transport.get_extra_info("socket")
    if socket is None:
        return True
    arrived = select.poll()
    with suppress(OSError, ValueError):
        arrived.register(socket.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        return bool(arrived.poll(0))
    return True


def _typed(row_type: type[RowType], record: asyncpg.Record) -> RowType:
    """The record as a value of `row_type`.

    Raises:
        TypeError: The statement's columns are not the fields of `row_type`; a bug.
    """
    if len(record) != len(row_type.__struct_fields__):
        raise TypeError(f"{row_type.__name__} has the fields {row_type.__struct_fields__}, not {tuple(record.keys())}")
    return row_type(**record)
