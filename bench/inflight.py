"""Thousands of jobs at a provider that calls back: `uv run python -m bench.inflight`; see README.md.

The whole way is real: the adapter of Replicate, its signed callbacks through the API, and a service in a process of its
own that speaks like Replicate (`limits/replicate.py`).
"""

import argparse
import asyncio
import json
import statistics
from typing import Any, Final

import asyncpg

from app.core.this_machine import opener
from bench.jobs import COMPLETED, IN_FLIGHT, WORKERS, MediaDependencies, show
from bench.load import Generator, Run, request
from bench.report import Row, Target
from bench.stage import CPUS, HOST, Stage, Subject

MODEL: Final = "black-forest-labs/flux-schnell"
ENDS: Final = """SELECT a.external_id, extract(epoch FROM m.completed_at)::float8 AS at
FROM attempts a JOIN media m ON m.id = a.media_id WHERE m.status = 'COMPLETED'"""
MOST_SECONDS: Final = 300.0


def _body() -> bytes:
    body = {"prompt": "a lighthouse at dawn", "model": f"replicate/{MODEL}", "input": {}}
    return request("POST", "/media/generate", body=json.dumps(body).encode())


def _books(service: Subject) -> dict[str, Any]:
    with opener(f"http://{HOST}").open(f"http://{HOST}:{service.port}/books", timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


class _Peak:
    """The largest VmRSS of a process while it is watched."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.mib = 0.0

    async def watch(self) -> None:
        while True:
            self.mib = max(self.mib, self._subject.resident_mib)
            await asyncio.sleep(0.2)


async def measure(stage: Stage, load: Generator, options: argparse.Namespace) -> list[Row]:
    """One run from the first request to the last COMPLETED."""
    service = stage.serve("bench.limits.replicate:app", cpus=CPUS, variables={"DELAY": str(options.seconds)})
    account = {
        "REPLICATE_API_TOKEN": "bench",
        "REPLICATE_BASE_URL": f"http://{HOST}:{service.port}/v1",
        "ALLOW_PRIVATE_ADDRESSES": "true",
        "ACCESS_LOG": "False",
        "LOG_LEVEL": "WARNING",
    }
    api = stage.serve("app.main:app", cpus=CPUS, variables=account)
    account |= {"CALLBACK_URL": f"http://{HOST}:{api.port}", "WORKER_SLOTS": str(options.jobs)}
    database = await asyncpg.connect(stage.dsn)
    desk = MediaDependencies(api, load, database)
    worker = stage.worker(cpus=CPUS, variables=account)
    await desk.until(WORKERS, 1, pause=0.1)
    await asyncio.sleep(3)
    idle, spent = worker.resident_mib, worker.cpu_seconds
    peak = _Peak(worker)
    watching = asyncio.create_task(peak.watch())
    await asyncio.to_thread(load, Run(api.port, [_body()], options.jobs))
    most = 0
    async with asyncio.timeout(MOST_SECONDS):
        while await database.fetchval(COMPLETED) < options.jobs:
            most = max(most, await database.fetchval(IN_FLIGHT))
            await asyncio.sleep(0.25)
    watching.cancel()
    spent = worker.cpu_seconds - spent
    books = _books(service)
    late = sorted((row["at"] - books["called"][row["external_id"]]) * 1000 for row in await database.fetch(ENDS))
    cuts = statistics.quantiles(late, n=100)
    jobs = options.jobs
    rows = [
        Row("memory of the worker, idle", idle, "MiB"),
        Row("memory of the worker, peak", peak.mib, "MiB", Target(None, 250, at_most=True), f"{most:,} in flight"),
        Row("worker CPU per job, all of it", spent / jobs * 1000, "ms", Target(6, 4, at_most=True), "200 kB each"),
        Row("callback to COMPLETED, p50", cuts[49], "ms", None, f"{jobs:,} jobs end as fast as they were bought"),
        Row("callback to COMPLETED, p99", cuts[98], "ms"),
        Row("polls per job", books["polls"] / jobs, "", None, f"{books['sold']:,} sold"),
    ]
    if books["sold"] != jobs:
        raise RuntimeError(f"{books['sold']} were sold for {jobs} jobs")
    await database.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5000, help="jobs in flight in one worker process")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the provider takes for each")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    with Stage() as stage, Generator() as load:
        rows = asyncio.run(measure(stage, load, options))
    show(rows, as_json=options.json)


if __name__ == "__main__":
    main()
