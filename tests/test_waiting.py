"""Long-poll: `Prefer: wait=N` answers as soon as there is something to say, and in time if there is nothing."""

import asyncio
import os
import signal

import httpx2
import pytest

from app.core.http_server.prefer import wanted_wait
from app.jobs.scheduling import pauses
from app.media import queries
from tests.support import Client, eventually, served, worker


def waiting(seconds, **more):
    return {"prefer": f"wait={seconds}", **more}


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=10", 10),
        ("respond-async, wait=5", 5),
        ("Wait = 7 ; x=y", 7),
        ('wait="3"', 3),
        ("wait=0", 1),
        ("wait=3600", 60),
        ("wait=soon", None),
        ("await=5", None),
        ("wait=-1", None),
        ("", None),
        (None, None),
    ],
)
def test_a_preference_is_understood_or_ignored(header, seconds):
    assert wanted_wait(header) == seconds


async def test_a_request_that_waits_is_answered_with_the_finished_media(product):
    answer = await product.api.post(
        "/media/generate",
        json={"prompt": "x", "model": "dummy/faulty", "input": {"delay": 0.5}},
        headers=waiting(30),
    )

    body = answer.json()
    assert (answer.status_code, body["status"], len(body["files"])) == (200, "COMPLETED", 1)
    assert answer.headers["preference-applied"] == "wait=30"


async def test_what_is_not_finished_in_time_is_accepted_all_the_same(client):
    answer = await client.api.post("/media/generate", json={"prompt": "x"}, headers=waiting(1))

    assert (answer.status_code, answer.json()["status"]) == (202, "IN_QUEUE")
    assert answer.headers["location"]


def nobody(_moved):
    """Nobody is told."""


async def test_what_is_not_finished_in_time_says_what_it_waits_for(client, db):
    body = {"prompt": "x", "model": "dummy/faulty"}
    await pauses.pause(db, body["model"], "back at noon", nobody)

    answer = await client.api.post("/media/generate", json=body, headers=waiting(1))

    assert (answer.status_code, answer.json()["waiting_for"]["message"]) == (202, "back at noon")


@pytest.mark.parametrize("path", ["/media/status/{job_id}", "/media/jobs/{job_id}"])
async def test_a_status_that_waits_comes_when_the_media_is_final(product, path):
    media = await product.faulty(delay=1)

    answer = await product.api.get(path.format(**media), headers=waiting(30))

    assert (answer.status_code, answer.json()["status"]) == (200, "COMPLETED")
    assert answer.headers["preference-applied"] == "wait=30"


async def test_what_is_final_already_is_not_waited_for(product):
    done = await product.until(await product.faulty())

    async with asyncio.timeout(10):
        answer = await product.api.get(f"/media/status/{done['job_id']}", headers=waiting(60))

    assert answer.json()["status"] == "COMPLETED"


async def test_with_an_etag_any_change_is_news(product):
    media = await product.faulty(delay=30)
    # From then on the next change is its progress.
    await eventually(lambda: product.media(media), lambda seen: seen["number_of_tries"] == 1)
    path = f"/media/jobs/{media['job_id']}"
    known = (await product.api.get(path)).headers["etag"]

    answer = await product.api.get(path, headers=waiting(30, **{"if-none-match": known}))

    assert (answer.status_code, answer.json()["status"]) == (200, "PROCESSING")
    assert answer.json()["progress"] > 0


async def test_with_an_etag_no_change_is_a_304_in_time(client):
    media = await client.faulty()
    path = f"/media/jobs/{media['job_id']}"
    known = (await client.api.get(path)).headers["etag"]

    answer = await client.api.get(path, headers=waiting(1, **{"if-none-match": known}))

    assert (answer.status_code, answer.headers["preference-applied"]) == (304, "wait=1")


async def test_what_another_process_does_is_heard_at_once_without_looking(settings, db, tmp_path):
    with served(settings, tmp_path / "api.log") as address, worker(settings, tmp_path / "1.log"):
        async with httpx2.AsyncClient(base_url=address, timeout=70) as api:
            client = Client(api)
            await eventually(client.answers)
            await eventually(lambda: db.fetch("SELECT id FROM workers"))
            asked = [await client.faulty(delay=1) for _ in range(20)]
            answers = await asyncio.gather(
                *(api.get(f"/media/status/{media['job_id']}", headers=waiting(60)) for media in asked)
            )

    assert {answer.json()["status"] for answer in answers} == {"COMPLETED"}


async def test_without_redis_it_is_seen_a_little_later(settings, db, tmp_path):
    nowhere = {"REDIS_URL": "redis://127.0.0.1:9/0"}
    with served(settings, tmp_path / "api.log", **nowhere) as address, worker(settings, tmp_path / "1.log", **nowhere):
        async with httpx2.AsyncClient(base_url=address, timeout=70) as api:
            client = Client(api)
            await eventually(client.answers)
            media = await client.faulty(delay=0.5)
            answer = await api.get(f"/media/status/{media['job_id']}", headers=waiting(30))

    assert answer.json()["status"] == "COMPLETED"


async def test_a_server_that_is_told_to_stop_answers_those_who_wait(settings, tmp_path):
    with served(settings, tmp_path / "api.log") as address:
        async with httpx2.AsyncClient(base_url=address, timeout=70) as api:
            client = Client(api)
            await eventually(client.answers)
            media = await client.faulty()
            path = f"/media/status/{media['job_id']}"
            asked = [asyncio.create_task(api.get(path, headers=waiting(60))) for _ in range(5)]
            await asyncio.sleep(1)
            os.kill(address.pid, signal.SIGTERM)
            async with asyncio.timeout(10):
                answers = await asyncio.gather(*asked)

    assert {(answer.status_code, answer.json()["status"]) for answer in answers} == {(200, "IN_QUEUE")}


async def test_a_thousand_requests_wait_without_a_connection_to_the_database_each(api, client, db):
    media = await client.faulty()
    path = f"/media/jobs/{media['job_id']}"
    asked = []
    watch = api._transport.app.state.desk.watch

    async def on_their_way():
        return len(asked) - watch.waiting

    # A hundred at a time: each begins with a look at the database, which more would have to wait for too long.
    for _ in range(10):
        asked.extend(asyncio.create_task(api.get(path, headers=waiting(60))) for _ in range(100))
        await eventually(on_their_way, lambda count: count == 0)

    # Somebody else is served meanwhile, from the same ten connections.
    assert (await client.faulty())["status"] == "IN_QUEUE"
    await api.post(f"/media/{media['id']}/cancel")
    answers = await asyncio.gather(*asked)

    assert {answer.json()["status"] for answer in answers} == {"CANCELED"}
    assert watch.waiting == 0
    assert await queries.changes(db, []) == []


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_client_that_goes_waits_no_longer(api, client, method):
    media = await client.faulty()
    watch = api._transport.app.state.desk.watch
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
    asked = asyncio.create_task(api._transport.app(scope, receive, send))
    await eventually(lambda: asyncio.sleep(0, watch.waiting), lambda count: count == 1)
    gone.set()
    async with asyncio.timeout(20):
        await asked

    assert watch.waiting == 0
