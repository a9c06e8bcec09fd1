"""At every point at which a worker can die, one dies; then a healthy one finishes what they all left behind."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.crash.audit import STORY, audit, died, rest, story
from tests.crash.fleet import eventually
from tests.crash.orders import CANCELED, COMPLETED, DEADLINE, FAILED, HELD, End, Order, ask, change_mind
from tests.crash.points import API_POINTS, POINTS

# The fleet is brought down and up again before the first of these tests.
pytestmark = pytest.mark.timeout(600)


@dataclass
class Case:
    """One worker that dies with one job."""

    point: str
    model: str = "sim/image"
    input: dict[str, Any] = field(default_factory=dict)
    end: End = COMPLETED
    bought: int = 1
    deadline: float | None = None
    canceled: bool = False
    stopped: bool = False
    """Its worker is told to stop."""
    after: int = 1
    """The passage on which it dies."""

    @property
    def prompt(self):
        return f"{self.model}@{self.point}"

    @property
    def order(self):
        return Order(
            self.prompt,
            self.model,
            self.input,
            deadline=self.deadline,
            cancel_after=0 if self.canceled else None,
        )


LOST = {"mode": "accept_then_drop"}
LARGE = {"size": 20_000_000}  # in three parts
ENDLESS = {"delay": 3600}
SLOW = {"delay": 10}  # a worker that is told to stop still has it
LATE = {"delay": 10, "stoppable": False}
BOUGHT = "SELECT FROM attempts WHERE media_id::text = $1 AND status = 'SUBMITTED'"
LAST_DEEDS = {"complete.after", "fail.after", "cancel.after", "expire.after", "reroute.after"}
"""Whose worker had nothing left to do."""
CASES = [
    Case("claim.after"),
    Case("intend.before"),
    Case("intend.after"),
    Case("submit.before"),
    Case("submit.after"),
    Case("find.before", input=LOST),
    Case("find.after", input=LOST),
    Case("purchase.before"),
    Case("purchase.after"),
    Case("poll.first"),
    Case("poll.done"),
    Case("open.midway"),
    Case("put.before"),
    Case("put.midway", input=LARGE),
    Case("put.after"),
    Case("handback.before", input=SLOW, stopped=True),
    Case("retry.before", input={"mode": "busy"}),
    Case("complete.before"),
    Case("complete.after"),
    Case("fail.before", input={"mode": "fail_late"}, end=FAILED),
    Case("fail.after", input={"mode": "fail_late"}, end=FAILED),
    Case("stop.before", input=ENDLESS, canceled=True, end=CANCELED),
    Case("stop.after", input=ENDLESS, canceled=True, end=CANCELED),
    Case("cancel.before", input=ENDLESS, canceled=True, end=CANCELED),
    Case("cancel.after", input=ENDLESS, canceled=True, end=CANCELED),
    Case("expire.before", input=ENDLESS, deadline=8, end=DEADLINE),
    Case("expire.after", input=ENDLESS, deadline=8, end=DEADLINE),
    # Where the provider cannot be asked, nobody buys again what may have been bought.
    Case("submit.before", "blind/image", end=HELD, bought=0),
    Case("submit.after", "blind/image", end=HELD),
    Case("purchase.after", "blind/image"),
    # The first target of this route refuses; a worker dies on the way from there to the next one's purchase.
    Case("reroute.before", "route/image"),
    Case("intend.after", "route/image", after=2),
    Case("submit.before", "route/image", after=2),
    # Late, because their jobs go back into the queue, where the next worker takes them.
    Case("retry.after", input={"mode": "busy"}),
    Case("handback.after", input=SLOW, stopped=True),
    Case("reroute.after", "route/image"),
]
LATE_CASES = [
    Case("late.after", input=LATE, deadline=8, end=DEADLINE),
    Case("late.before", input=LATE, deadline=8, end=DEADLINE),
]
"""The media is over, and what was paid for it is not. The second dies last: any worker would store its result."""
JOBS_IN_COMMON = ["a-job", "another-job", "a-third-job"]
CLEARING_UP = ["claim.after", "expired.after", "orphans.after", "claim.after", "suspects.after"]
"""Workers that die one after the other with the same jobs, each while it clears up after the one before."""


@dataclass
class Aftermath:
    """What became of one media when the dying was over."""

    end: End
    bought: int
    events: list[str]
    told: str


@pytest.fixture(scope="module")
async def aftermaths(new_fleet):
    """By prompt; several fleets share the dying, as much of it is waiting."""
    # An answer that is lost because the machine stalls would lead past many points.
    fleets = [new_fleet(SIMULATOR_SUBMIT_SECONDS="10") for _ in range(3)]
    lanes = (_die(fleets[0], CASES[::2]), _die(fleets[1], CASES[1::2]), _clear_up(fleets[2], LATE_CASES))
    return {prompt: one for lane in await asyncio.gather(*lanes) for prompt, one in lane.items()}


async def _die(new_fleet, cases):
    async with new_fleet as fleet:
        return await _finish(fleet, [await _die_with(fleet, case) for case in cases])


async def _clear_up(new_fleet, cases):
    async with new_fleet as fleet:
        asked = [(await ask(fleet, Order(prompt)))["id"] for prompt in JOBS_IN_COMMON]
        for point in CLEARING_UP:
            await died(fleet, fleet.start_worker(point, LEASE_SECONDS="1"), point, *JOBS_IN_COMMON)
        found = await _finish(fleet, asked)
        return found | await _finish(fleet, asked + [await _die_with(fleet, case) for case in cases])


async def _die_with(fleet, case):
    """One death; the id of the media."""
    worker = await fleet.start_doomed(case.point, after=case.after)
    media = await ask(fleet, case.order)
    if case.canceled or case.stopped:
        await eventually(lambda: fleet.fetch(BOUGHT, media["id"]))
    if case.canceled:
        await change_mind(fleet, media["id"])
    if case.stopped:
        worker.request_stop()
    await died(fleet, worker, case.point, case.prompt)
    return media["id"]


async def _finish(fleet, asked):
    """Let a healthy worker finish, and tell what became of each media."""
    fleet.start_worker(LEASE_SECONDS="1")
    await rest(fleet)
    fleet.end_workers()
    verdict = await audit(fleet, asked, sample=len(asked))
    assert verdict.holds, "\n".join(verdict.culprits)
    books = await fleet.books()
    found = {}
    for media in await fleet.fetch("SELECT id::text AS id, prompt, status, error->>'code' AS code FROM media"):
        found[media["prompt"]] = Aftermath(
            end=(media["status"], media["code"]),
            bought=sum(one["media"] == media["prompt"] for one in books["purchases"]),
            events=[row["event"] for row in await fleet.fetch(STORY, media["id"])],
            told=await story(fleet, media["prompt"]),
        )
    return found


def test_every_point_is_tried():
    assert {case.point for case in [*CASES, *LATE_CASES]} | {*CLEARING_UP, *API_POINTS} == set(POINTS)


@pytest.mark.parametrize("case", [*CASES, *LATE_CASES], ids=lambda case: case.prompt)
def test_a_worker_that_dies_there_loses_nothing_and_nothing_is_bought_twice(case, aftermaths):
    found = aftermaths[case.prompt]

    assert (found.end, found.bought) == (case.end, case.bought), found.told
    # Somebody had to go on with it.
    assert case.point in LAST_DEEDS or {"returned", "retry_scheduled", "late_stored"} & set(found.events), found.told


@pytest.mark.parametrize("prompt", JOBS_IN_COMMON)
def test_workers_that_die_while_they_clear_up_after_others_lose_nothing(prompt, aftermaths):
    found = aftermaths[prompt]

    assert (found.end, found.bought) == (COMPLETED, 1), found.told
    assert found.events.count("returned") >= 3, found.told
