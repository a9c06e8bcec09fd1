"""A campaign against a fleet: jobs come in while workers, API and engines are killed, until enough have died."""

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from app.embedded.engines import Engines
from app.embedded.process import ManagedProcess
from tests.crash.audit import Verdict, audit, rest
from tests.crash.fleet import Fleet, eventually, kill, until
from tests.crash.orders import Order, ask, change_mind, mixed
from tests.crash.outages import away
from tests.crash.points import API_POINTS, POINTS

AT_A_POINT: Final = 0.5
"""The share of workers that get a place in the code to die at; not all of them come by there."""
LIFETIME: Final = 2.0
"""Seconds that a worker lives after it got ready, on average; a third of them outlive the lease."""
LONGEST_WAIT_AT_A_POINT: Final = 3.0
WHILE_IT_STOPS: Final = 0.2
"""The share of the others that are told to stop first, and have up to a second for it."""
LARGEST_BURST: Final = 20
"""Jobs that are asked for at once."""
ASKED_WITHIN: Final = 0.95
"""The last job is asked for when so much of the dying is done."""
MOST_AT_ONCE: Final = 20
"""Requests that wait for an answer at the same time."""
WORKER_POINTS: Final = tuple(name for name in POINTS if name not in API_POINTS)
DISASTERS: Final = {"API": 25, "API before the bell": 50, "broker": 60, "PostgreSQL": 80, "S3": 100}
"""How many deaths of workers there are to one of these."""


@dataclass
class Plan:
    """How much of everything."""

    jobs: int
    deaths: int
    """Of workers; everything else that dies comes on top."""
    workers: int
    seed: int
    longest_delay: float = 3.0


@dataclass
class Campaign:
    """One campaign; `run` it once."""

    fleet: Fleet
    plan: Plan
    engines: Engines | None = None
    """Those that may be killed; None: they are others', and so is the API's peace."""
    kills: Counter[str] = field(default_factory=Counter)
    accepted: dict[str, str] = field(default_factory=dict)
    """Ids of media by prompt."""
    stopped: int = 0
    """Workers that were told to stop, and did in time."""
    oddities: list[str] = field(default_factory=list)
    """Workers that ended without being killed."""

    def __post_init__(self) -> None:
        self._chance = random.Random(self.plan.seed)
        self._taste = random.Random(self.plan.seed)
        self._deaths = 0
        self._registered: set[int] = set()
        self._asking = asyncio.Semaphore(MOST_AT_ONCE)
        self.begun = time.monotonic()

    @property
    def deaths(self) -> int:
        """Of workers, so far."""
        return self._deaths

    async def run(self) -> None:
        """Kill as many workers as planned while all jobs are asked for; every one is accepted at the end."""
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch())
            slots = [group.create_task(self._slot()) for _ in range(self.plan.workers)]
            asking = [group.create_task(self._ask_all(group))]
            breaking = [group.create_task(self._break())] if self.engines is not None else []
            await asyncio.gather(*slots, *asking, *breaking)
            await until(lambda: len(self.accepted) == self.plan.jobs)
            watching.cancel()

    async def finish(self, *, workers: int, seconds: float) -> Verdict:
        """Let healthy workers do what is left, at most that long, and look at what became of everything."""
        self.fleet.end_workers()
        for _ in range(workers):
            self.fleet.start_worker()
        await rest(self.fleet, seconds=seconds)
        return await audit(self.fleet, self.accepted.values())

    async def _slot(self) -> None:
        """A place for a worker: whoever dies there is replaced at once."""
        while self._deaths < self.plan.deaths:
            point = self._chance.choice(WORKER_POINTS) if self._chance.random() < AT_A_POINT else None
            worker = self.fleet.start_worker(point, after=self._chance.choice([1, 1, 1, 2, 3]))
            await until(lambda worker=worker: worker.poll() is not None or worker.pid in self._registered)
            alone = self._chance.expovariate(1 / LIFETIME) if point is None else LONGEST_WAIT_AT_A_POINT
            await until(lambda worker=worker: worker.poll() is not None, seconds=alone)
            stopping = worker.poll() is None and self._chance.random() < WHILE_IT_STOPS
            if stopping:
                worker.request_stop()
                await until(lambda worker=worker: worker.poll() is not None, seconds=self._chance.random())
            self._bury(worker, point, stopping=stopping)

    def _bury(self, worker: ManagedProcess, point: str | None, *, stopping: bool) -> None:
        status = worker.poll()
        if status is None:
            kill(worker)
            self._count("worker, while it stopped" if stopping else "worker, at a random moment")
        elif status == -signal.SIGKILL and point is not None:
            self._count(f"worker, at {point}")
        elif stopping and status == 0:
            self.stopped += 1
        else:
            self.oddities.append(f"a worker ended by itself with status {status}: {worker.log_tail(20)}")
        self.fleet.workers.remove(worker)

    def _count(self, kind: str) -> None:
        self.kills[kind] += 1
        self._deaths += 1

    async def _watch(self) -> None:
        """Know which workers are ready; while the database is away none becomes it."""
        while True:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                self._registered = await self.fleet.registered()
            await asyncio.sleep(0.2)

    async def _ask_all(self, group: asyncio.TaskGroup) -> None:
        """Ask for the jobs in bursts, spread over the deaths."""
        number = 0
        while number < self.plan.jobs:
            due = ASKED_WITHIN * self.plan.deaths * number / self.plan.jobs
            await until(lambda due=due: self._deaths >= due)
            burst = range(number, min(number + self._taste.randint(1, LARGEST_BURST), self.plan.jobs))
            for nth in burst:
                order = mixed(f"{self.plan.seed}-{nth}", self._taste, longest=self.plan.longest_delay)
                group.create_task(self._ask(order))
            number = burst.stop

    async def _ask(self, order: Order) -> None:
        async with self._asking:
            media = await ask(self.fleet, order)
        self.accepted[order.prompt] = media["id"]
        if order.cancel_after is not None:
            await asyncio.sleep(order.cancel_after)
            await change_mind(self.fleet, media["id"])

    async def _break(self) -> None:
        """Break the rest of the system now and then, one thing at a time."""
        due = [(nth, kind) for kind, each in DISASTERS.items() for nth in range(each // 2, self.plan.deaths, each)]
        for nth, kind in sorted(due):
            await until(lambda nth=nth: self._deaths >= nth)
            await self._disasters()[kind]()
            self.kills[kind] += 1

    def _disasters(self) -> dict[str, Callable[[], Awaitable[None]]]:
        assert self.engines is not None
        broker, database, store = self.engines.valkey, self.engines.postgres, self.engines.seaweed
        return {
            "API": self._api,
            "API before the bell": self._api_before_the_bell,
            "broker": lambda: self._engine(broker, empty=True),
            "PostgreSQL": lambda: self._engine(database),
            "S3": lambda: self._engine(store, politely=self._chance.random() < 0.5),
        }

    async def _engine(self, engine, **how: bool) -> None:
        async with away(engine, **how):
            await asyncio.sleep(self._chance.uniform(0, 3))

    async def _api(self) -> None:
        kill(self.fleet.api)
        self.fleet.start_api()
        await eventually(self.fleet.answers)

    async def _api_before_the_bell(self) -> None:
        """Give the API a place to die at; if no request comes by, it is killed all the same."""
        kill(self.fleet.api)
        self.fleet.start_api("request.after", self._chance.randint(1, 3))
        await until(lambda: self.fleet.api.poll() is not None, seconds=LONGEST_WAIT_AT_A_POINT)
        await self._api()
