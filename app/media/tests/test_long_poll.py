"""Long-poll: `Prefer: wait=N` is answered as soon as something changes, or when the time is up."""

import asyncio
import os
import signal

import httpx2
import pytest

from app.jobs.scheduling import pauses
from app.media import queries
from tests.support import Client, eventually, served, worker


def wait(seconds, **more):
    """The headers of a long-poll."""
    return {"prefer": f"wait={seconds}", **more}


async def test_generate_with_wait_returns_the_finished_media(product):
    answer = await product.api.post(
        "/media/generate",
        json={"prompt": "x", "model": "dummy/faulty", "input": {"delay": 0.5}},
        headers=wait(30),
    )

    body = answer.json()
    assert (answer.status_code, body["status"], len(body["files"])) == (200, "COMPLETED", 1)
    assert answer.headers["preference-applied"] == "wait=30"


async def test_generate_with_wait_answers_202_when_time_is_up(client):
    answer = await client.api.post("/media/generate", json={"prompt": "x"}, headers=wait(1))

    assert (answer.status_code, answer.json()["status"]) == (202, "IN_QUEUE")
    assert answer.headers["location"]


async def test_generate_with_wait_says_what_the_media_waits_for(client, db):
    body = {"prompt": "x", "model": "dummy/faulty"}
    await pauses.pause(db, body["model"], "back at noon", lambda _moved: None)

    answer = await client.api.post("/media/generate", json=body, headers=wait(1))

    assert (answer.status_code, answer.json()["waiting_for"]["message"]) == (202, "back at noon")


@pytest.mark.parametrize("path", ["/media/status/{job_id}", "/media/jobs/{job_id}"])
async def test_status_with_wait_answers_when_the_media_is_final(product, path):
    media = await product.faulty(delay=1)

    answer = await product.api.get(path.format(**media), headers=wait(30))

    assert (answer.status_code, answer.json()["status"]) == (200, "COMPLETED")
    assert answer.headers["preference-applied"] == "wait=30"


async def test_final_media_is_answered_without_waiting(product):
    done = await product.until(await product.faulty())

    async with asyncio.timeout(10):
        answer = await product.api.get(f"/media/status/{done['job_id']}", headers=wait(60))

    assert answer.json()["status"] == "COMPLETED"


async def test_etag_with_wait_answers_at_any_change(product):
    media = await product.faulty(delay=30)
    # From then on the next change is its progress.
    await eventually(lambda: product.media(media), lambda seen: seen["number_of_tries"] == 1)
    path = f"/media/jobs/{media['job_id']}"
    known = (await product.api.get(path)).headers["etag"]

    answer = await product.api.get(path, headers=wait(30, **{"if-none-match": known}))

    assert (answer.status_code, answer.json()["status"]) == (200, "PROCESSING")
    assert answer.json()["progress"] > 0


async def test_etag_with_wait_answers_304_when_nothing_changes(client):
    media = await client.faulty()
    path = f"/media/jobs/{media['job_id']}"
    known = (await client.api.get(path)).headers["etag"]

    answer = await client.api.get(path, headers=wait(1, **{"if-none-match": known}))

    assert (answer.status_code, answer.headers["preference-applied"]) == (304, "wait=1")


async def test_wait_ends_when_another_process_finishes_the_media(settings, db, tmp_path):
    with served(settings, tmp_path / "api.log") as address, worker(settings, tmp_path / "1.log"):
        async with httpx2.AsyncClient(base_url=address, timeout=70, trust_env=False) as api:
            client = Client(api)
            await eventually(client.answers)
            await eventually(lambda: db.fetch("SELECT id FROM workers"))
            requested = [await client.faulty(delay=1) for _ in range(20)]
            answers = await asyncio.gather(
                *(api.get(f"/media/status/{media['job_id']}", headers=wait(60)) for media in requested)
            )

    assert {answer.json()["status"] for answer in answers} == {"COMPLETED"}


async def test_wait_works_without_redis(settings, db, tmp_path):
    nowhere = {"REDIS_URL": "redis://127.0.0.1:9/0"}
    with served(settings, tmp_path / "api.log", **nowhere) as address, worker(settings, tmp_path / "1.log", **nowhere):
        async with httpx2.AsyncClient(base_url=address, timeout=70, trust_env=False) as api:
            client = Client(api)
            await eventually(client.answers)
            media = await client.faulty(delay=0.5)
            answer = await api.get(f"/media/status/{media['job_id']}", headers=wait(30))

    assert answer.json()["status"] == "COMPLETED"


async def test_stopping_server_answers_waiting_requests(server, address):
    media = await server.faulty()
    path = f"/media/status/{media['job_id']}"
    requests = [asyncio.create_task(server.api.get(path, headers=wait(60))) for _ in range(5)]
    await asyncio.sleep(1)
    os.kill(address.pid, signal.SIGTERM)
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*requests)

    assert {(answer.status_code, answer.json()["status"]) for answer in answers} == {(200, "IN_QUEUE")}


async def test_thousand_waiting_requests_share_ten_database_connections(api, client, db):
    media = await client.faulty()
    path = f"/media/jobs/{media['job_id']}"
    requests = []
    subscriptions = api._transport.app.state.media.subscriptions

    async def not_waiting_yet():
        return len(requests) - subscriptions.waiting

    # A hundred at a time: each reads the database first, and more would queue for a connection too long.
    for _ in range(10):
        requests.extend(asyncio.create_task(api.get(path, headers=wait(60))) for _ in range(100))
        await eventually(not_waiting_yet, lambda count: count == 0)

    # Other requests are served meanwhile, from the same ten connections.
    assert (await client.faulty())["status"] == "IN_QUEUE"
    await api.post(f"/media/{media['id']}/cancel")
    answers = await asyncio.gather(*requests)

    assert {answer.json()["status"] for answer in answers} == {"CANCELED"}
    assert subscriptions.waiting == 0
    assert await queries.last_changes(db, []) == []


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_wait_ends_when_the_client_disconnects(api, client, method):
    media = await client.faulty()
    subscriptions = api._transport.app.state.media.subscriptions
    gone, messages = asyncio.Event(), [{"type": "http.request", "body": b'{"prompt": "x"}', "more_body": False}]

    async def receive():
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(_message):
        pass

    path = "/media/generate" if method == "POST" else f"/media/jobs/{media['job_id']}"
    headers = [(b"prefer", b"wait=60"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b"", "root_path": ""}
    request = asyncio.create_task(api._transport.app(scope, receive, send))
    await eventually(lambda: asyncio.sleep(0, subscriptions.waiting), lambda count: count == 1)
    gone.set()
    async with asyncio.timeout(20):
        await request

    assert subscriptions.waiting == 0
