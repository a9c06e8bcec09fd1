"""API, worker and Redis killed between what happens and its telling: nothing is missing, doubles carry the same id."""

import asyncio
import os
import signal

import httpx2

from app.embedded.engines import VALKEY, Engines
from tests.event_streams import open_stream
from tests.receiver import Receiver, answering, hanging
from tests.support import Client, eventually, make_settings, served, worker
from tests.webhook_delivery import deliveries_of, register

TOLD = ["media.queued", "media.started", "media.completed"]


async def test_what_happened_is_told_whoever_is_killed_before_it_is_told(engines, database, db, tmp_path):
    asked, told = [], []

    async def read(reader, number):
        events = aiter(reader)
        async with asyncio.timeout(60):
            while len(told) < number:
                name, data = await anext(events)
                if name != "progress":
                    told.append((data["data"]["id"], data["type"]))

    with Engines(tmp_path / "broker", only=[VALKEY], durable=False) as own:
        settings = make_settings(engines, database_url=database, redis_url=own.environment()["REDIS_URL"])
        environment = {"ALLOW_PRIVATE_ADDRESSES": "true"}
        async with Receiver(hanging(asyncio.Event())) as receiver:
            with served(settings, tmp_path / "1.log", **environment) as address:
                async with httpx2.AsyncClient(base_url=address, timeout=60, trust_env=False) as api:
                    client = Client(api)
                    await eventually(client.answers)
                    webhook = await register(client, receiver.url, events=TOLD)
                    async with open_stream(api, "/media/events") as reader:
                        asked += [await client.faulty(), await client.faulty()]
                        await read(reader, 2)
                        last_id = reader.last_id
                        # From here on Redis is gone, and then the API, with an event that nobody has heard of.
                        os.kill(own.valkey.pid, signal.SIGKILL)
                        asked.append(await client.faulty())
                        os.kill(address.pid, signal.SIGKILL)

            with worker(settings, tmp_path / "1w.log", **environment) as first:
                await eventually(
                    lambda: db.fetch("SELECT FROM media WHERE status = 'COMPLETED'"), lambda rows: len(rows) == 3
                )
                # As many as an endpoint gets at the same time are on their way, and no answer has come.
                await eventually(lambda: asyncio.sleep(0, receiver.got), lambda got: len(got) == 8)
                first.send(signal.SIGKILL)
            before = {got.id for got in receiver.got}
            receiver.answer, receiver.got = answering(204), []

            own.valkey.start()
            # As if the leases were over.
            await db.execute("UPDATE webhook_deliveries SET next_at = now()")
            with (
                served(settings, tmp_path / "2.log", **environment) as address,
                worker(settings, tmp_path / "2w.log", **environment),
            ):
                async with httpx2.AsyncClient(base_url=address, timeout=60, trust_env=False) as api:
                    client = Client(api)
                    await eventually(client.answers)
                    async with open_stream(api, "/media/events", last_id) as reader:
                        await read(reader, 9)
                    delivered = await eventually(
                        lambda: deliveries_of(client, webhook, status="delivered"), lambda found: len(found) == 9
                    )

    all_of_it = sorted((media["id"], kind) for media in asked for kind in TOLD)
    assert sorted(told) == all_of_it
    assert sorted((got.payload["data"]["id"], got.payload["type"]) for got in receiver.got) == all_of_it
    assert before < {got.id for got in receiver.got} == {delivery["id"] for delivery in delivered}
