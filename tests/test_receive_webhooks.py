"""The receiver of docs/how-to/receive-webhooks.md, as its reader runs it; and the page's commands."""

import asyncio
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time

import httpx2
import pytest

from app.webhooks.signing import headers
from tests.pages import API, blocks, curl, curl_lines
from tests.receiver import Receiver
from tests.support import Client, eventually, listening_socket, make_settings, served, worker
from tests.webhook_delivery import deliveries_of, delivering_worker, register

PAGE = "receive-webhooks.md"


@pytest.fixture
def settings(engines, database):
    return make_settings(engines, database_url=database, allow_private_addresses=True)


@pytest.fixture
def place():
    """A port that is ours, and not served yet."""
    with listening_socket() as listening:
        yield listening


@contextlib.contextmanager
def page_receiver(folder, place, secret):
    """The page's receiver in a process of its own; its inbox."""
    (code,) = blocks(PAGE, "python")
    (folder / "receiver.py").write_text(code)
    number = place.fileno()
    with (folder / "receiver.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "receiver:app", "--fd", str(number)],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "WEBHOOK_SECRET": secret},
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(number,),
        )
    try:
        yield lambda: inbox(folder)
    finally:
        process.terminate()
        process.wait(10)


async def listens(url):
    """Whether the page's receiver does; then its table is there."""
    async with httpx2.AsyncClient(timeout=60, trust_env=False) as sender:
        return (await sender.post(url)).status_code == 401


async def inbox(folder):
    with contextlib.closing(sqlite3.connect(folder / "inbox.db", timeout=10)) as found:
        return found.execute("SELECT id, media_id, sequence, body FROM inbox ORDER BY sequence").fetchall()


async def test_the_receiver_takes_what_is_ours_once_and_refuses_the_rest(client, settings, bell, place, tmp_path):
    url = f"http://127.0.0.1:{place.getsockname()[1]}/hook"
    webhook = await register(client, url)
    with page_receiver(tmp_path, place, webhook["secret"]) as taken:
        await eventually(lambda: listens(url), seconds=60)
        async with delivering_worker(settings, bell):
            media = await client.until(await client.faulty())
            ((webhook_id, media_id, sequence, body),) = await eventually(taken)
            delivered = {"status": "delivered"}
            (delivery,) = await eventually(lambda: deliveries_of(client, webhook, **delivered))

            path = f"/webhooks/{webhook['id']}"
            assert (await client.api.post(f"{path}/deliveries/{delivery['id']}/replay")).status_code == 202
            await eventually(
                lambda: deliveries_of(client, webhook, **delivered), lambda found: found and found[0]["tries"] == 2
            )
            assert (await client.api.post(f"{path}/test")).status_code == 202
            tested = (await eventually(taken, lambda rows: len(rows) == 2))[0]

        now = int(time.time())
        fresh, stale = (headers([webhook["secret"]], webhook_id, now - age, body.encode()) for age in (0, 600))
        async with httpx2.AsyncClient(trust_env=False) as sender:
            double = await sender.post(url, content=body, headers=fresh)
            tampered = await sender.post(url, content=body.replace("COMPLETED", "CANCELED"), headers=fresh)
            old = await sender.post(url, content=body, headers=stale)
            unsigned = await sender.post(url, content=body)

    assert (webhook_id, media_id, sequence) == (delivery["id"], media["id"], delivery["sequence"])
    assert json.loads(body)["data"]["files"] == media["files"]
    assert json.loads(tested[3])["type"] == "webhook.test"
    assert [answer.status_code for answer in (double, tampered, old, unsigned)] == [204, 401, 401, 401]
    assert len(await taken()) == 2


def prompts(receiver):
    return [got.payload["data"].get("prompt") for got in receiver.got]


async def test_the_commands_of_the_page_do_what_it_says(settings, tmp_path):
    with served(settings, tmp_path / "api.log", ALLOW_PRIVATE_ADDRESSES="true") as address:
        async with Receiver() as receiver, httpx2.AsyncClient(base_url=address, timeout=60, trust_env=False) as api:
            client = Client(api)
            await eventually(client.answers)
            words = {API: address, "http://127.0.0.1:3000/hook": receiver.url}

            async def run(command):
                printed = await asyncio.to_thread(curl, command, words)
                return json.loads(printed) if printed else {}

            with worker(settings, tmp_path / "worker.log", ALLOW_PRIVATE_ADDRESSES="true"):
                for command in curl_lines(PAGE):
                    said = await run(command)
                    if "secret" in said:
                        words |= {"WEBHOOK_ID": said["id"]}
                    if said.get("type") == "webhook.test":
                        words |= {"DELIVERY_ID": said["id"]}
                        await eventually(lambda: asyncio.sleep(0, "webhook.test" in receiver.types()))
                # To the registered webhook, and to the request's own.
                await eventually(lambda: asyncio.sleep(0, prompts(receiver).count("a quiet harbour") == 2))

            kinds = [found["kind"] for found in (await api.get("/webhooks")).json()["items"]]

    assert kinds == ["request", "registered"]
    assert receiver.types().count("webhook.test") == 2
