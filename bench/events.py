"""How soon clients learn, and what it costs: `uv run python -m bench.events`; see README.md."""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

import asyncpg
import httpx2

from bench.report import HEADER, Row, Target, table
from bench.stage import CPUS, HOST, MEASURED, OTHERS, Stage, Subject, pin

MOST_SECONDS: Final = 180.0
OWNER: Final = "00000000-0000-7000-8000-000000000001"
ENDPOINTS: Final = 20
_PENDING: Final = "SELECT count(*) FROM webhook_deliveries WHERE status = 'pending'"
_DELIVERIES: Final = """INSERT INTO webhook_deliveries (endpoint_id, receiver, type, media_id, sequence)
SELECT e.id, e.id::text, 'media.completed', m.id, n FROM generate_series(1, $1) n
JOIN (SELECT id, row_number() OVER () AS number FROM webhook_endpoints) e ON e.number = n % $2 + 1
CROSS JOIN (SELECT id FROM media WHERE status = 'COMPLETED' LIMIT 1) m"""


class Hook(asyncio.Protocol):
    """A receiver that answers 204 at once."""

    arrived: Final[dict[str, float]] = {}
    """When the end of a media item arrived, by the clock of this machine."""
    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._read = b""

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, end, body = self._read.partition(b"\r\n\r\n")
        if not end:
            return
        length = next(int(line[16:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: "))
        if len(body) < length:
            return
        self._read = body[length:]
        Hook.count += 1
        Hook.arrived.setdefault(json.loads(body[:length])["data"]["id"], time.time())
        self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


@contextlib.asynccontextmanager
async def hook() -> AsyncIterator[str]:
    server = await asyncio.get_running_loop().create_server(Hook, HOST, 0)
    async with server:
        yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}/"


async def told_by_long_poll(api: httpx2.AsyncClient, job_id: str) -> float:
    answer = await api.get(f"/media/jobs/{job_id}", headers={"prefer": "wait=60"})
    told = time.time()
    assert answer.json()["status"] == "COMPLETED", answer.text
    return told


async def told_by_stream(api: httpx2.AsyncClient, media_id: str) -> float:
    async with api.stream("GET", f"/media/{media_id}/events") as answer:
        async for line in answer.aiter_lines():
            if line == "event: completed":
                return time.time()
    raise RuntimeError("the stream ended without the end of its media")


async def latencies(api: httpx2.AsyncClient, samples: int) -> list[Row]:
    """From the commit of the end, as the database has it, until a client has it: one media at a time."""
    taken: dict[str, list[float]] = {"long-poll": [], "stream": [], "webhook": []}
    for number in range(samples + 5):
        body = {"prompt": "one", "model": "dummy/faulty", "input": {"delay": 0.1}}
        media = (await api.post("/media/generate", json=body)).json()
        polled, streamed = await asyncio.gather(
            told_by_long_poll(api, media["job_id"]), told_by_stream(api, media["id"])
        )
        async with asyncio.timeout(MOST_SECONDS):
            while media["id"] not in Hook.arrived:  # noqa: ASYNC110 - it arrives in another connection
                await asyncio.sleep(0.001)
        done = (await api.get(f"/media/{media['id']}")).json()["completed_at"]
        over = datetime.fromisoformat(done).timestamp()
        if number >= 5:
            for name, told in (("long-poll", polled), ("stream", streamed), ("webhook", Hook.arrived[media["id"]])):
                taken[name].append((told - over) * 1000)
    rows: list[Row] = []
    for name, milliseconds in taken.items():
        cuts = statistics.quantiles(milliseconds, n=100)
        rows += [
            Row(f"completion to client, {name}, p50", cuts[49], "ms", note=f"{samples} media"),
            Row(f"completion to client, {name}, p99", cuts[98], "ms"),
        ]
    return rows


async def cpu_per_post(limit: Subject, url: str, body: bytes, count: int) -> float:
    """Milliseconds of a process that does nothing but post."""
    before = limit.cpu_seconds
    async with httpx2.AsyncClient(timeout=MOST_SECONDS, trust_env=False) as client:
        answer = await client.post(f"http://{HOST}:{limit.port}/post/{count}", params={"to": url}, content=body)
    assert answer.status_code == 200, answer.text
    return (limit.cpu_seconds - before) / count * 1000


async def cpu_per_delivery(
    worker: Subject, limit: Subject, database: "asyncpg.Connection[asyncpg.Record]", url: str, count: int, rounds: int
) -> list[Row]:
    """Bursts of deliveries that are due, to twenty endpoints, in turn with the limit; the worker alone on its core."""
    await database.execute("DELETE FROM webhook_endpoints")
    await database.execute(
        """INSERT INTO webhook_endpoints (id, owner_id, url, events, secret)
        SELECT gen_random_uuid(), $1::uuid, $2, '{}', 'whsec_' || encode(sha256(n::text::bytea), 'base64')
        FROM generate_series(1, $3::int) n""",
        OWNER,
        url,
        ENDPOINTS,
    )
    spent: list[float] = []
    rates: list[float] = []
    bare: list[float] = []
    for number in range(rounds + 1):
        Hook.count = 0
        idle = worker.cpu_seconds
        await asyncio.sleep(2)
        idle = (worker.cpu_seconds - idle) / 2
        before, begun = worker.cpu_seconds, time.perf_counter()
        await database.execute(_DELIVERIES, count, ENDPOINTS)
        async with asyncio.timeout(MOST_SECONDS):
            while await database.fetchval(_PENDING):  # noqa: ASYNC110 - other processes work
                await asyncio.sleep(0.05)
        seconds = time.perf_counter() - begun
        assert Hook.count == count, f"{Hook.count} of {count} deliveries arrived"
        if number > 0:  # the first one warms up
            spent.append((worker.cpu_seconds - before - idle * seconds) / count * 1000)
            rates.append(count / seconds)
            body = await database.fetchval("SELECT payload FROM webhook_deliveries LIMIT 1")
            bare.append(await cpu_per_post(limit, url, body.encode(), count))
        await database.execute("DELETE FROM webhook_deliveries")
    note = f"{rounds} x {count} to {ENDPOINTS} endpoints; worker process, without PostgreSQL"
    return [
        Row("CPU per webhook delivery", statistics.median(spent), "ms", Target(1, 0.4, at_most=True), note),
        Row("the same, only posting, bare aiohttp", statistics.median(bare), "ms", note="the limit, in turn with it"),
        Row(
            "ratio of the two",
            statistics.median(one / other for one, other in zip(spent, bare, strict=True)),
            "x",
            note="each round compared with itself",
        ),
        Row("webhook deliveries per second", statistics.median(rates), "1/s"),
    ]


async def _open(port: int, path: str, header: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(HOST, port, limit=2**15)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: bench\r\n{header}\r\n".encode())
    return reader, writer


async def waiting(
    api: Subject, client: httpx2.AsyncClient, path: str, count: int, samples: int, header: str = ""
) -> list[Row]:
    """Memory of the API while `count` clients wait for media that do not end, and how soon another one is told then."""
    body = {"prompt": "one", "model": "dummy/faulty", "input": {"delay": 3_000}}
    before = api.resident_mib
    asked = [(await client.post("/media/generate", json=body)).json() for _ in range(100)]
    crowd = [await _open(api.port, path.format(**asked[number % 100]), header) for number in range(count)]
    await asyncio.sleep(3)
    mib = api.resident_mib - before
    taken: list[float] = []
    for _ in range(samples):
        media = (await client.post("/media/generate", json=body)).json()
        reader, writer = await _open(api.port, path.format(**media), header)
        await asyncio.sleep(0.1)
        end = asyncio.create_task(_ended(reader))
        await client.post(f"/media/{media['id']}/cancel")
        async with asyncio.timeout(MOST_SECONDS):
            told = await end
        over = (await client.get(f"/media/{media['id']}")).json()["completed_at"]
        taken.append((told - datetime.fromisoformat(over).timestamp()) * 1000)
        writer.close()
    for _, writer in crowd:
        writer.close()
    for media in asked:
        await client.post(f"/media/{media['id']}/cancel")
    kind = "stream" if "events" in path else "long-poll"
    return [
        Row(f"memory per open {kind}", mib / count * 1024, "KiB", note=f"{count} open, all of the API's growth"),
        Row(
            f"completion to client, {kind} beside {count}, p50", statistics.median(taken), "ms", note=f"{samples} media"
        ),
    ]


async def _ended(reader: asyncio.StreamReader) -> float:
    while line := await reader.readline():
        if b"CANCELED" in line or line.startswith(b"event: canceled"):
            return time.time()
        if line.startswith(b"content-length"):
            await reader.readline()
    raise RuntimeError("cut off")


async def measure(stage: Stage, options: argparse.Namespace) -> list[Row]:
    variables = {"ACCESS_LOG": "false", "ALLOW_PRIVATE_ADDRESSES": "true"}
    api = stage.serve("app.main:app", cpus=MEASURED, variables=variables)
    worker = stage.worker(cpus=MEASURED, variables=variables)
    limit = stage.serve("bench.limits.poster:app", cpus=MEASURED)
    database = await asyncpg.connect(stage.dsn)
    async with (
        hook() as url,
        httpx2.AsyncClient(base_url=f"http://{HOST}:{api.port}", timeout=90, trust_env=False) as client,
    ):
        async with asyncio.timeout(60):
            while not await database.fetchval("SELECT count(*) FROM workers"):  # noqa: ASYNC110 - other processes work
                await asyncio.sleep(0.1)
        await client.post("/webhooks", json={"url": url})
        rows = await latencies(client, options.samples)
        rows += await cpu_per_delivery(worker, limit, database, url, options.deliveries, options.rounds)
        rows += await waiting(api, client, "/media/{id}/events", options.streams, options.samples // 4)
        rows += await waiting(
            api, client, "/media/jobs/{job_id}", options.polls, options.samples // 4, "prefer: wait=60\r\n"
        )
    await database.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=200, help="media for the latencies")
    parser.add_argument("--deliveries", type=int, default=2_000, help="deliveries in one burst")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=2_000)
    parser.add_argument("--polls", type=int, default=5_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with Stage() as stage:
        stage.pin_engines(OTHERS)
        pin(os.getpid(), OTHERS)
        rows = asyncio.run(measure(stage, options))
    if options.json:
        print(json.dumps([row.as_json() for row in rows], indent=2))
        return
    print(f"{len(CPUS)} cores, Python {sys.version.split()[0]}\n")
    print(table([HEADER, *(row.cells for row in rows)]))


if __name__ == "__main__":
    main()
