"""CPU per request of Fleek's API beside its limits: `uv run python -m bench.api`; see README.md."""

import argparse
import asyncio
import http.client
import json
import statistics
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self
from uuid import UUID

import asyncpg
import redis

from bench.limits.statements import OWNER, TABLE
from bench.load import Generator, Run, request
from bench.report import HEADER, Row, Target, table
from bench.stage import HOST, MEASURED, OTHERS, Stage, Subject

BODY: Final = json.dumps(
    {
        "prompt": "a lighthouse at dawn, long exposure, film grain",
        "model": "dummy/faulty",
        "input": {"size": 200_000, "delay": 1},
        "metadata": {"order": "A-17"},
    }
).encode()
POPULATION: Final = 200
"""How many different media the repeated reads go round."""
SUBMIT: Final = [request("POST", "/media/generate", body=BODY)]

FLEEK, LOGGING, LIMIT, BYTES, LEAN = "fleek", "fleek, access log", "fastapi", "bytes", "starlette+asyncpg"
SERVERS: Final[Mapping[str, str]] = {
    FLEEK: "app.main:app",
    LIMIT: "bench.limits.fastapi_app:app",
    BYTES: "bench.limits.starlette_bytes:app",
    LEAN: "bench.limits.starlette_app:app",
    LOGGING: "app.main:app",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the table."""

    name: str
    status: int
    limit: str
    """The operation of the limits that it is compared with."""
    target: Target


OPERATIONS: Final[Mapping[str, Operation]] = {
    "submit": Operation("submit", 202, "submit", Target(0.9, 1.2, at_most=False)),
    "status": Operation("status, in queue", 200, "status", Target(1.0, 1.5, at_most=False)),
    "finished": Operation("status, finished", 200, "status", Target(1.0, 2.3, at_most=False)),
    "unchanged": Operation("status, finished, 304", 304, "status", Target(1.0, 2.3, at_most=False)),
    "content": Operation("content, URL cached", 307, "content", Target(1.0, 2.0, at_most=False)),
    "first": Operation("content, first time", 307, "content", Target(1.0, None, at_most=False)),
}
OFFERED: Final[Mapping[str, tuple[str, ...]]] = {
    FLEEK: tuple(OPERATIONS),
    LIMIT: ("submit", "status", "content"),
    BYTES: ("submit", "status", "content"),
    LEAN: ("submit", "status"),
    LOGGING: ("submit", "status", "finished", "content"),
}


@dataclass(slots=True)
class Samples:
    """What one server needed for one operation, a number for each round."""

    microseconds: list[float] = field(default_factory=list[float])
    per_second: list[float] = field(default_factory=list[float])

    @property
    def cost(self) -> float:
        return statistics.median(self.microseconds)

    @property
    def rate(self) -> float:
        return statistics.median(self.per_second)


@dataclass(frozen=True, slots=True)
class Seed:
    """What lies in the database before the first round."""

    queued: Sequence[UUID]
    """Jobs in the queue."""
    finished: Sequence[tuple[UUID, UUID]]
    """Job and media."""
    fresh: Sequence[UUID]
    """Finished media that nobody has asked for yet."""


class Ear:
    """Hears the bells as a worker would, so that the API goes on ringing them."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url, socket_timeout=5)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._over = False
        self.heard = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over = True
        self._thread.join(3)
        self._redis.close()

    def _listen(self) -> None:
        while not self._over:
            if self._redis.blpop(["fleek.bell.network", "fleek.bell.local"], timeout=1) is not None:
                self.heard += 1


async def seed(dsn: str, fresh: int) -> Seed:
    """Make the limit's table, media in the queue and media that are finished."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(TABLE)
        queued = await connection.fetch(_QUEUED, OWNER, POPULATION)
        finished = await connection.fetch(_FINISHED, OWNER, POPULATION)
        unseen = await connection.fetch(_FINISHED, OWNER, fresh)
        await connection.execute("ANALYZE media, files")
    finally:
        await connection.close()
    return Seed(
        [row["job_id"] for row in queued],
        [(row["job_id"], row["id"]) for row in finished],
        [row["id"] for row in unseen],
    )


_COLUMNS: Final = "id, job_id, owner_id, status, prompt, model, input, metadata, queue, provider"
_VALUES: Final = """'a lighthouse at dawn, long exposure, film grain', 'dummy/faulty',
    '{"size": 200000, "delay": 1}', '{"order": "A-17"}', 'network', 'dummy'"""
_QUEUED: Final = f"""INSERT INTO media ({_COLUMNS})
SELECT gen_random_uuid(), gen_random_uuid(), $1, 'IN_QUEUE', {_VALUES} FROM generate_series(1, $2)
RETURNING job_id"""
_FINISHED: Final = f"""WITH made AS (
    INSERT INTO media ({_COLUMNS}, progress, number_of_tries, started_at, completed_at)
    SELECT gen_random_uuid(), gen_random_uuid(), $1, 'COMPLETED', {_VALUES}, 1, 1, now(), now()
    FROM generate_series(1, $2) RETURNING id, job_id
), stored AS (
    INSERT INTO files (id, media_id, index, key, media_type, bytes, width, height, sha256)
    SELECT gen_random_uuid(), id, 0, 'media/2026/01/' || id || '/0.png', 'image/png', 200000, 256, 777,
        repeat('0', 64) FROM made
) SELECT id, job_id FROM made"""


class Bench:
    """All servers side by side; `round` measures each operation on each of them once."""

    def __init__(self, servers: Mapping[str, Subject], load: Generator, seeded: Seed, burst: int) -> None:
        self._servers = servers
        self._load = load
        self._burst = burst
        self._fresh = [_content(media_id) for media_id in seeded.fresh]
        status = [request("GET", f"/media/status/{job}") for job in seeded.queued]
        finished = [request("GET", f"/media/status/{job}") for job, _ in seeded.finished]
        self._requests = {
            "submit": SUBMIT,
            "status": status,
            "finished": finished,
            "unchanged": finished,
            "content": [_content(media_id) for _, media_id in seeded.finished],
        }
        self._finished = [job for job, _ in seeded.finished]
        self.samples = {name: {what: Samples() for what in OFFERED[name]} for name in servers}

    def warm_up(self) -> None:
        """Fill pools, plans and caches; learn the ETags."""
        for name in self._servers:
            for what in OFFERED[name]:
                if what not in {"first", "unchanged"}:
                    self._measure(name, what, 2 * POPULATION, keep=False)
        if FLEEK in self._servers:
            self._requests["unchanged"] = [
                request("GET", f"/media/status/{job}", headers={"if-none-match": self._etag(job)})
                for job in self._finished
            ]

    def round(self, number: int) -> None:
        """Each operation on each server, neighbours in time; every other round in reverse."""
        steps = [(name, what) for what in OPERATIONS for name in self._servers if what in OFFERED[name]]
        for name, what in steps if number % 2 == 0 else reversed(steps):
            self._measure(name, what, self._burst, keep=True)

    def _measure(self, name: str, what: str, total: int, *, keep: bool) -> None:
        server = self._servers[name]
        requests = self._requests.get(what, self._fresh)
        if what == "first":
            requests, self._fresh = self._fresh[:total], self._fresh[total:]
        before = server.cpu_seconds
        try:
            outcome = self._load(Run(server.port, requests, total)).expect(OPERATIONS[what].status)
        except Exception as error:
            raise RuntimeError(f"{what} on {name} failed: {error}\n{server.log_tail()}") from error
        spent = server.cpu_seconds - before
        if keep:
            self.samples[name][what].microseconds.append(spent / total * 1e6)
            self.samples[name][what].per_second.append(total / outcome.seconds)

    def _etag(self, job: UUID) -> str:
        connection = http.client.HTTPConnection(HOST, self._servers[FLEEK].port, timeout=5)
        try:
            connection.request("GET", f"/media/status/{job}")
            return connection.getresponse().headers["etag"]
        finally:
            connection.close()


def _content(media_id: UUID) -> bytes:
    return request("GET", f"/media/content/{media_id}")


def ratio(bench: Bench, what: str) -> float:
    """How many times cheaper Fleek is than the limit: the median of the rounds, each compared with itself."""
    ours = bench.samples[FLEEK][what].microseconds
    theirs = bench.samples[LIMIT][OPERATIONS[what].limit].microseconds
    return statistics.median(limit / own for own, limit in zip(ours, theirs, strict=True))


def comparison(bench: Bench) -> list[list[str]]:
    """The table of operations."""
    head = ["operation", "fleek", "limit", "ratio", "must", "good", "", "req/s", "limit"]
    rows = [[*head, "bare bytes", "bare + asyncpg", "fleek + access log"]]
    for what, operation in OPERATIONS.items():
        value, target = ratio(bench, what), operation.target
        ours, theirs = bench.samples[FLEEK][what], bench.samples[LIMIT][operation.limit]
        others = [
            bench.samples[BYTES].get(operation.limit),
            bench.samples[LEAN].get(operation.limit),
            bench.samples[LOGGING].get(what),
        ]
        rows.append(
            [
                operation.name,
                f"{ours.cost:.0f}",
                f"{theirs.cost:.0f}",
                f"{value:.2f}",
                target.text(target.must),
                target.text(target.good),
                target.verdict(value),
                f"{ours.rate:.0f}",
                f"{theirs.rate:.0f}",
                *(f"{other.cost:.0f}" if other else "" for other in others),
            ]
        )
    return rows


def result(bench: Bench, memory: Sequence[Row]) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "operations": {
            what: {
                "ratio": round(ratio(bench, what), 3),
                "verdict": operation.target.verdict(ratio(bench, what)),
                "must": operation.target.must,
                "good": operation.target.good,
                "microseconds": {
                    name: [round(value, 1) for value in samples[what].microseconds]
                    for name, samples in bench.samples.items()
                    if what in samples
                },
            }
            for what, operation in OPERATIONS.items()
        },
        "memory": [row.as_json() for row in memory],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=24, help="how often everything is measured")
    parser.add_argument("--requests", type=int, default=400, help="requests in one measurement")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    with Stage() as stage, Generator() as load, Ear(stage.environment["REDIS_URL"]):
        stage.pin_engines(OTHERS)
        seeded = asyncio.run(seed(stage.dsn, options.rounds * options.requests))
        servers = {
            name: stage.serve(app, cpus=MEASURED, variables={"ACCESS_LOG": str(name == LOGGING)})
            for name, app in SERVERS.items()
        }
        idle = servers[FLEEK].resident_mib
        bench = Bench(servers, load, seeded, options.requests)
        bench.warm_up()
        for number in range(options.rounds):
            bench.round(number)
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        memory = [
            Row("memory of the API, idle", idle, "MiB", Target(90, 65, at_most=True)),
            Row("memory of the API after the load", servers[FLEEK].resident_mib, "MiB"),
            Row("memory of the limit after the load", servers[LIMIT].resident_mib, "MiB"),
        ]
    if options.json:
        print(json.dumps(result(bench, memory), indent=1))
        return
    print("CPU of the server in microseconds per request, median of the rounds; ratio = limit / fleek\n")
    print(table(comparison(bench)))
    print()
    print(table([HEADER, *(row.cells for row in memory)]))


if __name__ == "__main__":
    main()
