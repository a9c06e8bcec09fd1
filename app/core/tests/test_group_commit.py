"""Group commit: concurrent writes share a round, and one bad item fails alone."""

import asyncio

import pytest

from app.core.database import group_commit
from app.core.database.group_commit import GroupCommit


async def test_concurrent_writes_share_a_round():
    rounds = []

    async def write(items):
        rounds.append(list(items))
        await asyncio.sleep(0.01)
        return [item * 10 for item in items]

    batch = GroupCommit(write)

    assert await asyncio.gather(*(batch(number) for number in range(5))) == [0, 10, 20, 30, 40]
    assert [item for items in rounds for item in items] == [0, 1, 2, 3, 4]
    assert len(rounds) <= 2


async def test_invalid_item_fails_alone():
    async def write(items):
        if 3 in items:
            raise ValueError("three")
        return list(items)

    batch = GroupCommit(write, shared=(OSError,))
    results = await asyncio.gather(*(batch(number) for number in range(5)), return_exceptions=True)

    assert [result for result in results if not isinstance(result, ValueError)] == [0, 1, 2, 4]
    assert isinstance(results[3], ValueError)


async def test_shared_error_fails_every_caller_without_single_retries():
    calls = []

    async def write(items):
        calls.append(items)
        raise OSError("away")

    batch = GroupCommit(write, shared=(OSError,))
    results = await asyncio.gather(*(batch(number) for number in range(5)), return_exceptions=True)

    assert all(isinstance(result, OSError) for result in results)
    assert len(calls) <= 2


async def test_cancelled_caller_does_not_cancel_the_write():
    written = []

    async def write(items):
        await asyncio.sleep(0.02)
        written.extend(items)
        return list(items)

    batch = GroupCommit(write)
    first = asyncio.create_task(batch(1))
    await asyncio.sleep(0.01)
    first.cancel()

    assert await batch(2) == 2
    assert written == [1, 2]


async def test_persistent_write_is_repeated_until_the_other_side_is_back(monkeypatch):
    monkeypatch.setattr(group_commit, "SHORTEST_PAUSE", 0.001)
    errors = iter([OSError("down"), OSError("still down")])
    rounds = []

    async def write(items):
        rounds.append(list(items))
        for error in errors:
            raise error
        return list(items)

    group = GroupCommit(write, shared=(OSError,), persist=True)

    assert await asyncio.gather(*(group(number) for number in range(3))) == [0, 1, 2]
    assert rounds[0] == [0, 1, 2]
    assert len(rounds) > 2


async def test_persistent_write_still_fails_the_invalid_item_alone(monkeypatch):
    monkeypatch.setattr(group_commit, "SHORTEST_PAUSE", 0.001)
    outages = iter([OSError("down")])
    written = []

    async def write(items):
        if 1 in items:
            raise ValueError("one")
        if len(items) == 1:
            for outage in outages:
                raise outage
        written.extend(items)
        return list(items)

    group = GroupCommit(write, shared=(OSError,), persist=True)
    results = await asyncio.gather(*(group(number) for number in range(3)), return_exceptions=True)

    assert [results[0], results[2]] == [0, 2]
    assert isinstance(results[1], ValueError)
    assert sorted(written) == [0, 2]


async def test_item_of_a_cancelled_caller_is_not_written_after_an_outage(monkeypatch):
    monkeypatch.setattr(group_commit, "SHORTEST_PAUSE", 0.02)
    outages = iter([OSError("down")])
    written = []

    async def write(items):
        for outage in outages:
            raise outage
        written.extend(items)
        return list(items)

    group = GroupCommit(write, shared=(OSError,), persist=True)
    cancelled = asyncio.create_task(group(1))
    await asyncio.sleep(0.005)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled

    assert await group(2) == 2
    assert written == [2]


async def test_item_that_cannot_be_written_now_holds_up_no_later_one(monkeypatch):
    monkeypatch.setattr(group_commit, "SHORTEST_PAUSE", 0.02)
    locked = {"locked"}

    async def write(items):
        if locked & set(items):
            raise TimeoutError
        return list(items)

    group = GroupCommit(write, shared=(TimeoutError,), persist=True)
    stuck = asyncio.create_task(group("locked"))
    for number in range(20):
        await asyncio.wait_for(group(number), 5)
        await asyncio.sleep(0.005)
    assert not stuck.done()

    locked.clear()
    assert await stuck == "locked"


async def test_later_item_does_not_wait_out_the_pause_of_an_earlier_one(monkeypatch):
    monkeypatch.setattr(group_commit, "SHORTEST_PAUSE", 3600.0)
    outages = iter([OSError("down")])

    async def write(items):
        for outage in outages:
            raise outage
        return list(items)

    group = GroupCommit(write, shared=(OSError,), persist=True)
    earlier = asyncio.create_task(group(1))
    await asyncio.sleep(0.01)

    assert await asyncio.wait_for(group(2), 5) == 2
    assert not earlier.done()
    earlier.cancel()


async def test_a_write_that_answers_for_fewer_items_leaves_no_caller_waiting():
    async def write(items):
        return list(items)[1:]

    batch = GroupCommit(write)
    results = await asyncio.gather(*(batch(number) for number in range(3)), return_exceptions=True)

    assert [type(result) for result in results] == [RuntimeError] * 3
