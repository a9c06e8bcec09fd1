"""Places for copies are shared fairly, whatever the order in which they are asked for."""

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from app.jobs.outputs.places import FairPlaces, Party

NUMBER = 12


class Copies:
    """Copies that hold their places until they are told to end."""

    def __init__(self, number=NUMBER):
        self.places = FairPlaces(number)
        self.held = {}
        self._tasks = {}
        self.ratios = {}

    async def start(self, name, *parties):
        async def copy():
            async with self.places.place(*(Party(name, self.ratios.get(name, 2)) for name in parties)):
                self.held[name] = parties
                try:
                    await asyncio.Event().wait()
                finally:
                    del self.held[name]

        self._tasks[name] = asyncio.create_task(copy())
        await asyncio.sleep(0)

    async def end(self, name):
        task = self._tasks.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def close(self):
        for name in list(self._tasks):
            await self.end(name)

    def count(self, party):
        return sum(party in parties for parties in self.held.values())


async def test_one_provider_leaves_places_for_others():
    copies = Copies()
    for number in range(3 * NUMBER):
        await copies.start(number, "slow", f"owner {number}")
    assert copies.count("slow") == 8  # two thirds

    await copies.start("other", "quick", "somebody")

    assert "other" in copies.held
    await copies.close()


async def test_one_owner_leaves_places_for_others():
    copies = Copies()
    for number in range(3 * NUMBER):
        await copies.start(number, f"provider {number}", "greedy")
    await copies.start("other", "provider 0", "modest")

    assert copies.count("greedy") == 8
    assert "other" in copies.held
    await copies.close()


async def test_one_provider_does_not_use_up_the_share_of_an_owner():
    copies = Copies()
    copies.ratios["owner"] = 5
    for number in range(3 * NUMBER):
        await copies.start(number, "slow", "owner")
    await copies.start("other", "quick", "owner")

    assert copies.count("slow") == 8
    assert "other" in copies.held
    await copies.close()


async def test_whoever_has_least_comes_first():
    copies = Copies(3)
    await copies.start("a1", "a")
    await copies.start("a2", "a")
    await copies.start("a3", "a")
    await copies.start("b1", "b")
    await copies.start("b2", "b")
    assert set(copies.held) == {"a1", "a2", "b1"}

    await copies.end("b1")
    assert set(copies.held) == {"a1", "a2", "b2"}
    await copies.close()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 30)), max_size=60),
    st.integers(1, 8),
)
def test_places_are_never_lost_nor_exceeded(steps, number):
    async def walk():
        copies, started = Copies(number), set()
        for step, (begin, account, owner, which) in enumerate(steps):
            if begin:
                await copies.start(step, account, owner)
                started.add(step)
            elif started:
                name = sorted(started)[which % len(started)]
                started.discard(name)
                await copies.end(name)
            assert len(copies.held) <= number
            assert copies.held or not started  # somebody has a place as long as anybody wants one
            shares = Counter(party for parties in copies.held.values() for party in parties)
            assert all(share <= max(2 * number / 3 + 1, 1) for share in shares.values())
        await copies.close()
        for one in range(number):
            await copies.start(f"last {one}", f"account {one}", f"owner {one}")
        assert len(copies.held) == number
        await copies.close()

    asyncio.run(walk())


async def test_copy_that_is_cancelled_while_its_wait_is_reported_takes_no_place():
    places, gate = FairPlaces(1), asyncio.Event()

    async def hold(party, on_wait=None):
        async with places.place(Party(party), on_wait=on_wait):
            await gate.wait()

    first = asyncio.create_task(hold("a"))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(hold("b", asyncio.Event().wait))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    last = asyncio.create_task(hold("c"))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, last)

    assert (places._free, places._waiting, +places._held) == (1, {}, {})
