"""The connection pool on a real PostgreSQL: its limit, cancelled queries, connections that the server ends."""

import asyncio
import threading

import asyncpg
import pytest

from app.core.database.pool import CONNECTION_LOST, RETRYABLE, UNAVAILABLE, DatabasePool


async def test_pool_never_opens_more_connections_than_its_size(settings):
    few = DatabasePool(settings.database_dsn, size=3)

    await asyncio.gather(*(few.fetch("SELECT pg_sleep(0.01)") for _ in range(30)))
    rows = await few.fetch("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")

    assert rows[0][0] <= 3
    await few.close()


async def test_result_of_a_cancelled_query_never_reaches_the_next_query(settings):
    one = DatabasePool(settings.database_dsn, size=1)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await one.fetch("SELECT pg_sleep(0.1), 'old'")
        assert (await one.fetchrow("SELECT 'new'"))[0] == "new"
    await one.close()


async def test_sql_error_keeps_the_connection_open(settings):
    one = DatabasePool(settings.database_dsn, size=1)
    before = (await one.fetchrow("SELECT pg_backend_pid()"))[0]

    with pytest.raises(asyncpg.PostgresError):
        await one.fetch("SELECT 1/0")

    assert (await one.fetchrow("SELECT pg_backend_pid()"))[0] == before
    await one.close()


async def test_connection_closed_by_the_server_is_replaced(settings, base_settings):
    one = DatabasePool(settings.database_dsn, size=2)
    pid = (await one.fetchrow("SELECT pg_backend_pid()"))[0]
    killer = await asyncpg.connect(base_settings.database_dsn)
    await killer.execute("SELECT pg_terminate_backend($1)", pid)
    await killer.close()
    await asyncio.sleep(0.2)

    assert (await one.fetchrow("SELECT 1"))[0] == 1
    await one.close()


async def test_connection_that_has_ended_unnoticed_is_replaced_before_anything_is_sent(settings, base_settings):
    few = DatabasePool(settings.database_dsn, size=4)
    await asyncio.gather(*(few.fetch("SELECT pg_sleep(0.05)") for _ in range(4)))
    await few.execute("CREATE TABLE written (number int)")

    async def end_all():
        killer = await asyncpg.connect(base_settings.database_dsn)
        name = settings.database_dsn.rpartition("/")[2]
        await killer.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", name)
        await killer.close()

    # In another thread, while this event loop stands still: it has not heard of the ends when it goes on.
    ending = threading.Thread(target=asyncio.run, args=(end_all(),))
    ending.start()
    ending.join()

    await asyncio.gather(*(few.execute("INSERT INTO written VALUES ($1)", number) for number in range(8)))
    assert (await few.fetchrow("SELECT count(*) FROM written"))[0] == 8
    await few.close()


async def test_when_one_connection_has_ended_the_idle_ones_are_replaced(settings):
    few = DatabasePool(settings.database_dsn, size=3)
    asked = (few.fetchrow("SELECT pg_backend_pid(), pg_sleep(0.05)") for _ in range(3))
    before = {row[0] for row in await asyncio.gather(*asked)}

    with pytest.raises(CONNECTION_LOST):
        await few.fetch("SELECT pg_terminate_backend(pg_backend_pid())")

    assert (await few.fetchrow("SELECT pg_backend_pid()"))[0] not in before
    await few.close()


async def test_cancelled_waiter_does_not_leak_its_pool_slot(settings):
    one = DatabasePool(settings.database_dsn, size=1)
    slow = asyncio.create_task(one.fetch("SELECT pg_sleep(0.2)"))
    await asyncio.sleep(0.05)
    waiter = asyncio.create_task(one.fetch("SELECT 1"))
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.gather(slow, waiter, return_exceptions=True)

    assert (await one.fetchrow("SELECT 1"))[0] == 1
    await one.close()


async def test_connection_terminated_by_the_server_is_never_reused(settings, base_settings):
    few = DatabasePool(settings.database_dsn, size=5)
    killer = await asyncpg.connect(base_settings.database_dsn)
    name = settings.database_dsn.rpartition("/")[2]
    seen = []

    async def use():
        for _ in range(150):
            try:
                await few.fetch("SELECT pg_sleep(0.001)")
            except Exception as error:  # noqa: BLE001 - any other than UNAVAILABLE is the defect that is looked for
                seen.append(error)

    async def kill():
        for _ in range(20):
            await asyncio.sleep(0.02)
            await killer.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)

    await asyncio.gather(kill(), *(use() for _ in range(8)))
    await killer.close()

    assert seen, "nothing was cut off"
    assert [error for error in seen if not isinstance(error, UNAVAILABLE)] == []
    assert (await few.fetchrow("SELECT 1"))[0] == 1
    await few.close()


@pytest.mark.parametrize("argument", ["no number", 2**40, object()])
async def test_argument_that_cannot_be_sent_is_no_fault_of_the_connection(settings, argument):
    pool = DatabasePool(settings.database_dsn, size=2)
    before = (await pool.fetchrow("SELECT pg_backend_pid()"))[0]

    with pytest.raises(asyncpg.DataError) as raised:
        await pool.fetch("SELECT $1::int", argument)

    assert not isinstance(raised.value, (*RETRYABLE, *CONNECTION_LOST))
    assert (await pool.fetchrow("SELECT pg_backend_pid()"))[0] == before
    assert not pool.failed_at
    await pool.close()
