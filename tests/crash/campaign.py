"""A campaign against a fleet: jobs come in while workers, API and engines are killed, until enough have died."""

import asyncio
import contextlib
import os
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from app.embedded.engines import Engines
from app.embedded.process import ManagedProcess
from tests.crash.audit import Verdict, audit, rest
from tests.crash.fleet import DatabaseAwayError, Fleet, eventually, kill, pace, until
from tests.crash.orders import ALL_MODELS, LISTED, Order, ask, change_mind, mixed, retry
from tests.crash.outages import away
from tests.crash.points import API_POINTS, POINTS
from tests.crash.troubles import ALL, TIME_SCALE
from tests.providers.replicate_gateway import TOKEN

CATALOGUE: Final = Path(__file__).with_name("campaign.toml")

AT_A_POINT: Final = 0.5
"""The share of workers that get a place in the code to die at; not all of them come by there."""
LIFETIME: Final = 2.0
"""Seconds that a worker lives after it got ready, on average; a third of them outlive the lease."""
STOPPED_SHARE: Final = 0.15
"""The share of workers that are stopped (SIGSTOP) for a while and go on, before they die at a random moment."""
LEASES_STOPPED: Final = 3.0
"""How many leases that takes at most."""
BROKEN_OUTPUT_SHARE: Final = 0.15
"""The share of workers whose output goes nowhere."""
HOW_IT_ENDED: Final = """SELECT error->>'code' FROM media
    WHERE id::text = $1 AND status IN ('COMPLETED', 'ERROR', 'CANCELED')"""
RETRIED_WITHIN: Final = 30.0
RETRY_LOOK_SECONDS: Final = 1.0
"""How long the end of a job is waited for that its owner would retry, and between two looks at it."""
OUTPUT_LOST: Final = 120
"""With what status Python ends when it cannot write out the last of its output."""
EQUAL_SHARE: Final = 0.4
"""The share of orders that ask for exactly what the one before asks for."""
STALL_SECONDS: Final = 120.0
"""Without a death, a job that was accepted or a disaster that is over, after which a campaign is cut short."""
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
    troubles: frozenset[str] = frozenset(ALL)
    often: frozenset[str] = frozenset()
    """How submissions are treated most of the time."""
    models: Mapping[str, float] = field(default_factory=lambda: ALL_MODELS)

    @property
    def simulator(self) -> Sequence[str]:
        """The options of the simulator."""
        names = ("--troubles", ",".join(sorted(self.troubles)), "--often", ",".join(sorted(self.often)))
        return ("--seed", str(self.seed), *names)

    @property
    def environment(self) -> Mapping[str, str]:
        """What the fleet's processes need beside the usual."""
        return {
            "CATALOGUE_FILE": str(CATALOGUE),
            "CRASH_TIME_SCALE": str(TIME_SCALE),
            "REPLICATE_API_TOKEN": TOKEN,
            "REPLICATE_SUBMIT_SECONDS": "2",
            "REPLICATE_ANSWER_SECONDS": "5",
            "FAL_KEY": "id:secret",
            "FAL_TIMEOUT": "2",
        }


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
    """Workers that ended without being killed, and whatever else went wrong in the harness itself."""

    def __post_init__(self) -> None:
        self._chance = random.Random(self.plan.seed)
        self._taste = random.Random(self.plan.seed)
        self._last = Order("")
        self._deaths = 0
        self._registered: set[int] = set()
        self._asking = asyncio.Semaphore(MOST_AT_ONCE)
        self.begun = time.monotonic()

    @property
    def deaths(self) -> int:
        """Of workers, so far."""
        return self._deaths

    async def run(self) -> None:
        """Kill as many workers as planned while all jobs are asked for; every one is accepted at the end.

        Whatever goes wrong on the way, also in this harness, is an oddity: the audit is made all the same.
        """
        try:
            async with asyncio.TaskGroup() as group:
                watching = [group.create_task(self._watch()), group.create_task(self._guard())]
                slots = [group.create_task(self._slot()) for _ in range(self.plan.workers)]
                asking = [group.create_task(self._ask_all(group))]
                breaking = [group.create_task(self._break())] if self.engines is not None else []
                await asyncio.gather(*slots, *asking, *breaking)
                await until(lambda: len(self.accepted) == self.plan.jobs)
                for task in watching:
                    task.cancel()
        except* Exception as errors:  # noqa: BLE001 - an audit is worth more than a clean end
            self.oddities += ["".join(traceback.format_exception(one)) for one in errors.exceptions]
        await self._repair()

    async def finish(self, *, workers: int, seconds: float = STALL_SECONDS) -> Verdict:
        """Let healthy workers do what is left, as long as something changes, and look at what became of everything.

        Args:
            workers: How many; the output of the first goes nowhere, if that is among the troubles.
            seconds: How long nothing may change.
        """
        self.fleet.end_workers()
        broken = sorted(self.plan.troubles & {"full_stdout", "closed_stdout"})
        for nth in range(workers):
            self.fleet.start_worker(**({"CRASH_STDOUT": broken[0]} if broken and nth == 0 else {}))
        prefix = f"{self.plan.seed}-"
        # Elsewhere nothing is found later that was not found at once.
        aftercare = LISTED in self.plan.models
        await rest(self.fleet, prefix=prefix, seconds=seconds, aftercare=aftercare)
        return await audit(self.fleet, self.accepted.values(), prefix=prefix, sample=None)

    async def _repair(self) -> None:
        """Whatever was away when the dying ended comes back: API and engines."""
        for engine in (self.engines.valkey, self.engines.postgres, self.engines.seaweed) if self.engines else ():
            if not engine.alive:
                engine.launch()
                await asyncio.to_thread(engine.await_ready)
        if self.fleet.api is None or self.fleet.api.poll() is not None:
            await self._api()

    async def _guard(self) -> None:
        """End what no longer moves; a machine that is busy only takes longer."""
        seen, since = None, time.monotonic()
        while time.monotonic() - since < STALL_SECONDS:
            now = (self._deaths, len(self.accepted), sum(self.kills.values()), self.stopped)
            if now != seen:
                seen, since = now, time.monotonic()
            await asyncio.sleep(1)
        raise TimeoutError(f"nothing has moved for {STALL_SECONDS:.0f} s: {self.fleet.logs()[-4000:]}")

    async def _slot(self) -> None:
        """A place for a worker: whoever dies there is replaced at once."""
        while self._deaths < self.plan.deaths:
            point = self._chance.choice(WORKER_POINTS) if self._chance.random() < AT_A_POINT else None
            output = self._output()
            worker = self.fleet.start_worker(point, after=self._chance.choice([1, 1, 1, 2, 3]), **output)
            await until(lambda worker=worker: worker.poll() is not None or worker.pid in self._registered)
            alone = self._chance.expovariate(1 / LIFETIME) if point is None else LONGEST_WAIT_AT_A_POINT
            await until(lambda worker=worker: worker.poll() is not None, seconds=alone)
            if "stopped" in self.plan.troubles and self._chance.random() < STOPPED_SHARE:
                await self._suspend(worker)
            stopping = worker.poll() is None and self._chance.random() < WHILE_IT_STOPS
            if stopping:
                worker.request_stop()
                await until(lambda worker=worker: worker.poll() is not None, seconds=self._chance.random())
            self._bury(worker, point, stopping=stopping, ends={0, OUTPUT_LOST} if output else {0})

    def _output(self) -> dict[str, str]:
        """Where a worker's output goes."""
        broken = sorted(self.plan.troubles & {"full_stdout", "closed_stdout"})
        if not broken or self._chance.random() >= BROKEN_OUTPUT_SHARE:
            return {}
        return {"CRASH_STDOUT": self._chance.choice(broken)}

    async def _suspend(self, worker: ManagedProcess) -> None:
        """Stop a worker for up to three leases, and let it live on for a moment."""
        # It may die at its point at this very moment.
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGSTOP)
            await asyncio.sleep(self._chance.uniform(0, LEASES_STOPPED * float(pace()["LEASE_SECONDS"])))
            os.kill(worker.pid, signal.SIGCONT)
            self.kills["worker, stopped and continued"] += 1
        await until(lambda: worker.poll() is not None, seconds=self._chance.expovariate(1 / LIFETIME))

    def _bury(self, worker: ManagedProcess, point: str | None, *, stopping: bool, ends: set[int]) -> None:
        status = worker.poll()
        if status is None:
            kill(worker)
            self._count("worker, while it stopped" if stopping else "worker, at a random moment")
        elif status == -signal.SIGKILL and point is not None:
            self._count(f"worker, at {point}")
        elif stopping and status in ends:
            self.stopped += 1
        else:
            self.oddities.append(f"a worker ended by itself with status {status}: {worker.log_tail(40)}")
        self.fleet.workers.remove(worker)

    def _count(self, kind: str) -> None:
        self.kills[kind] += 1
        self._deaths += 1

    async def _watch(self) -> None:
        """Know which workers are ready; while the database is away none becomes it."""
        while True:
            with contextlib.suppress(DatabaseAwayError):
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
                group.create_task(self._ask(self._order(f"{self.plan.seed}-{nth}")))
            number = burst.stop

    def _order(self, name: str) -> Order:
        """The next one; it may be the last one once more, as another request."""
        again = self._taste.random() < EQUAL_SHARE and "equal_inputs" in self.plan.troubles and self._last.prompt
        if again:
            order = replace(self._last, key=name)
        else:
            how = {"longest": self.plan.longest_delay, "models": self.plan.models, "troubles": self.plan.troubles}
            order = mixed(name, self._taste, **how)
        self._last = order
        return order

    async def _ask(self, order: Order) -> None:
        async with self._asking:
            media = await ask(self.fleet, order)
        self.accepted[order.key or order.prompt] = media["id"]
        if order.cancel_after is not None:
            await asyncio.sleep(order.cancel_after)
            await change_mind(self.fleet, media["id"])
        elif order.retries:
            await self._retry_what_failed(media["id"])

    async def _retry_what_failed(self, media_id: str) -> None:
        """Ask once more for what the provider itself reports as failed, and nothing else."""
        with contextlib.suppress(AssertionError):
            ((code,),) = await eventually(
                lambda: self.fleet.fetch(HOW_IT_ENDED, media_id), seconds=RETRIED_WITHIN, pause=RETRY_LOOK_SECONDS
            )
            if code == "generation_failed":
                await retry(self.fleet, media_id)
                self.kills["job, retried by its owner"] += 1

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
