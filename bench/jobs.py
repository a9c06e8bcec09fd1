"""The worker's rows: CPU per job, latency, jobs/s, memory: `uv run python -m bench.jobs`; see README.md."""

import argparse
import asyncio
import http.client
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from bench.load import Generator, Run, request
from bench.report import HEADER, Row, Target, table
from bench.stage import CPUS, HOST, MEASURED, OTHERS, Stage, Subject, pin

SIZE: Final = 200_000
UNDER_WAY: Final = """SELECT EXISTS (SELECT FROM media WHERE status = 'IN_QUEUE')
    OR EXISTS (SELECT FROM media WHERE status = 'PROCESSING')"""
COMPLETED: Final = "SELECT count(*) FROM media WHERE status = 'COMPLETED'"
IN_FLIGHT: Final = "SELECT count(*) FROM attempts WHERE status = 'SUBMITTED'"
WORKERS: Final = "SELECT count(*) FROM workers"
MOST_SECONDS: Final = 120.0
"""No wait for jobs takes longer."""
DELAY: Final = 30
"""Seconds that the jobs in flight wait for their provider; all are in flight long before the first is done."""


class MediaDependencies:
    """Submits jobs through the API and watches the database."""

    def __init__(self, api: Subject, load: Generator, database: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._api = api
        self._load = load
        self._database = database

    def submit(self, total: int, given: dict[str, Any]) -> None:
        """Ask for `total` media, as fast as the API takes them."""
        self._load(Run(self._api.port, [_post(given)], total)).expect(202)

    async def until(self, query: str, wanted: object, pause: float = 0.01) -> None:
        """Wait until a query gives that answer."""
        async with asyncio.timeout(MOST_SECONDS):
            while await self._database.fetchval(query) != wanted:  # noqa: ASYNC110 - other processes work
                await asyncio.sleep(pause)

    async def all_done(self, total: int) -> None:
        """Wait until nothing is under way, and make sure that `total` media are completed."""
        await self.until(UNDER_WAY, wanted=False)
        completed = await self._database.fetchval(COMPLETED)
        if completed != total:
            raise RuntimeError(f"{completed} of {total} media are completed")

    async def clear(self) -> None:
        await self._database.execute("TRUNCATE media, logs CASCADE")

    async def one(self, given: dict[str, Any]) -> float:
        """Seconds from submit to COMPLETED of one job; the database is asked every millisecond."""
        connection = http.client.HTTPConnection(HOST, self._api.port, timeout=10)
        try:
            begun = time.perf_counter()
            body = json.dumps({"prompt": "one", "model": "dummy/faulty", "input": given})
            connection.request("POST", "/media/generate", body, {"content-type": "application/json"})
            media_id = UUID(json.loads(connection.getresponse().read())["id"])
            async with asyncio.timeout(MOST_SECONDS):
                while await self._database.fetchval(_STATUS, media_id) != "COMPLETED":  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            return time.perf_counter() - begun
        finally:
            connection.close()


_STATUS: Final = "SELECT status FROM media WHERE id = $1"


def _post(given: dict[str, Any]) -> bytes:
    body = {"prompt": "a lighthouse at dawn", "model": "dummy/faulty", "input": given}
    return request("POST", "/media/generate", body=json.dumps(body).encode())


async def latency(desk: MediaDependencies, samples: int) -> list[Row]:
    """One job at a time, with pauses in between."""
    taken: list[float] = []
    for number in range(samples + 3):
        await asyncio.sleep(random.uniform(0.05, 0.15))
        seconds = await desk.one({"size": SIZE})
        if number >= 3:
            taken.append(seconds * 1000)
    await desk.clear()
    cuts = statistics.quantiles(taken, n=20)
    return [
        Row("one idle job, submit to done, p50", cuts[9], "ms", Target(60, 25, at_most=True), f"{samples} jobs"),
        Row("one idle job, submit to done, p95", cuts[18], "ms"),
    ]


async def cpu_per_job(
    desk: MediaDependencies, worker: Subject, limit: Subject, load: Generator, rounds: int, burst: int
) -> list[Row]:
    """Worker and limit in turn, each alone on its core while it works."""
    ours: list[float] = []
    theirs: list[float] = []
    upload = request("POST", f"/upload/{burst}/{SIZE}", body=b"")
    for number in range(rounds + 1):
        before = worker.cpu_seconds
        desk.submit(burst, {"size": SIZE})
        await desk.all_done(burst)
        await asyncio.sleep(0.4)  # the last events are written to the database
        spent = worker.cpu_seconds - before
        await desk.clear()
        before = limit.cpu_seconds
        load(Run(limit.port, [upload], 1, connections=1)).expect(200)
        allowed = limit.cpu_seconds - before
        if number > 0:  # the first one warms up
            ours.append(spent / burst * 1000)
            theirs.append(allowed / burst * 1000)
    ratio = statistics.median(limit / own for own, limit in zip(ours, theirs, strict=True))
    return [
        Row(
            f"worker CPU per {SIZE // 1000} kB job",
            statistics.median(ours),
            "ms",
            Target(6, 4, at_most=True),
            f"limit / worker = {ratio:.2f}",
        ),
        Row("limit: upload and a row", statistics.median(theirs), "ms"),
    ]


async def throughput(desk: MediaDependencies, jobs: int, workers: int, target: Target | None) -> Row:
    """Jobs per second from the first submit to the last completion, all processes on all cores."""
    rates: list[float] = []
    for _ in range(3):
        begun = time.perf_counter()
        desk.submit(jobs, {"size": SIZE})
        await desk.all_done(jobs)
        rates.append(jobs / (time.perf_counter() - begun))
        await asyncio.sleep(0.5)
        await desk.clear()
    note = f"{jobs} jobs of {SIZE // 1000} kB at once; " + ", ".join(f"{rate:.0f}" for rate in rates)
    return Row(f"jobs per second, {workers} worker(s)", statistics.median(rates), "1/s", target, note)


async def in_flight(desk: MediaDependencies, stage: Stage, jobs: int, target: Target) -> list[Row]:
    """Memory of one worker with that many jobs waiting for their provider, then its warm stop."""
    desk.submit(jobs, {"delay": DELAY})
    worker = stage.worker(cpus=CPUS, variables={"WORKER_SLOTS": str(jobs)})
    begun = time.perf_counter()
    await desk.until(IN_FLIGHT, jobs, pause=0.1)
    taken = time.perf_counter() - begun
    await asyncio.sleep(1)
    memory = worker.resident_mib
    begun = time.perf_counter()
    await asyncio.to_thread(worker.stop, 30)
    note = f"all bought {taken:.1f} s after the start; warm stop {time.perf_counter() - begun:.1f} s"
    await desk.clear()
    return [Row(f"worker memory, {jobs:,} jobs in flight", memory, "MiB", target, note)]


async def measure(stage: Stage, load: Generator, options: argparse.Namespace) -> list[Row]:
    """All rows, one phase after the other."""
    database = await asyncpg.connect(stage.dsn)
    api = stage.serve("app.main:app", cpus=CPUS, variables={"ACCESS_LOG": "False"})
    desk = MediaDependencies(api, load, database)
    worker = stage.worker(cpus=CPUS)
    await desk.until(WORKERS, 1, pause=0.1)
    await asyncio.sleep(3)
    rows = [
        Row("memory of the API, idle", api.resident_mib, "MiB", Target(90, 65, at_most=True)),
        Row("memory of the worker, idle", worker.resident_mib, "MiB", Target(120, 90, at_most=True)),
    ]
    _tell("latency")
    rows += await latency(desk, options.samples)

    _tell("CPU per job")
    limit = stage.serve("bench.limits.uploader:app", cpus=MEASURED)
    _arrange(stage, worker, api, load, apart=True)
    rows += await cpu_per_job(desk, worker, limit, load, options.rounds, options.burst)
    limit.stop()
    _arrange(stage, worker, api, load, apart=False)

    _tell("jobs per second")
    rows.append(await throughput(desk, options.jobs, 1, None))
    second = stage.worker(cpus=CPUS)
    await desk.until(WORKERS, 2, pause=0.1)
    rows.append(await throughput(desk, options.jobs, 2, Target(50, 80, at_most=False)))
    rows.append(Row("memory of a worker after the load", worker.resident_mib, "MiB"))
    for each in (worker, second):
        await asyncio.to_thread(each.stop, 20)

    _tell("in flight")
    rows += await in_flight(desk, stage, 2000, Target(200, None, at_most=True))
    rows += await in_flight(desk, stage, 5000, Target(None, 150, at_most=True))
    await database.close()
    return rows


def _arrange(stage: Stage, worker: Subject, api: Subject, load: Generator, *, apart: bool) -> None:
    """The worker alone on one core and everything else on the other, or all on all."""
    pin(worker.pid, MEASURED if apart else CPUS)
    for pid in (api.pid, load.pid):
        pin(pid, OTHERS if apart else CPUS)
    stage.pin_engines(OTHERS if apart else CPUS)


def _tell(phase: str) -> None:
    print(f"... {phase}", file=sys.stderr)


def show(rows: Sequence[Row], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([row.as_json() for row in rows], indent=1))
    else:
        print(table([HEADER, *(row.cells for row in rows)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often CPU per job is measured")
    parser.add_argument("--burst", type=int, default=200, help="jobs in one measurement of CPU per job")
    parser.add_argument("--samples", type=int, default=60, help="jobs in the measurement of latency")
    parser.add_argument("--jobs", type=int, default=500, help="jobs at once in the measurement of jobs/s")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    with Stage() as stage, Generator() as load:
        rows = asyncio.run(measure(stage, load, options))
    show(rows, as_json=options.json)


if __name__ == "__main__":
    main()
