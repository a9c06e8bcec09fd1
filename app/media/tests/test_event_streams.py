"""Event streams: states at once, nothing missed or repeated across a reconnect, and an end after the final event."""

import asyncio
import contextlib
import os
import signal
from uuid import UUID

import httpx2
import pytest

from app.core.database.pool import Change
from app.media.api import event_streams
from tests.event_streams import open_stream, state_names
from tests.support import Client, eventually, served, worker


@contextlib.asynccontextmanager
async def connected(app, path, *, method="GET", last_event_id=None):
    """What the application has sent so far to a client that stays connected within the block."""
    gone, messages = asyncio.Event(), []

    async def receive():
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        messages.append(message)

    headers = [] if last_event_id is None else [(b"last-event-id", last_event_id.encode())]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b"", "root_path": ""}
    stream = asyncio.create_task(app(scope, receive, send))
    yield lambda: b"".join(message.get("body", b"") for message in messages).decode()
    gone.set()
    async with asyncio.timeout(5):
        await stream


async def sent_within(app, path, *, seconds, method="GET"):
    """What the application sends in so many seconds."""
    async with connected(app, path, method=method) as sent:
        await asyncio.sleep(seconds)
    return sent()


async def test_media_stream_runs_from_the_first_event_to_the_final_one(server, settings, tmp_path):
    media = await server.faulty(delay=2)

    with worker(settings, tmp_path / "worker.log"):
        async with open_stream(server.api, f"/media/{media['id']}/events") as reader, asyncio.timeout(40):
            events = [event async for event in reader]

    states = [data for name, data in events if name not in {"progress", "log"}]
    assert [data["type"] for data in states] == ["media.queued", "media.started", "media.completed"]
    assert [data["sequence"] for data in states] == sorted(data["sequence"] for data in states)
    last = events[-1]
    assert (last[0], last[1]["data"]["status"], len(last[1]["data"]["files"])) == ("completed", "COMPLETED", 1)
    assert last[1]["data"]["files"][0]["url"].endswith(f"/media/content/{media['id']}?index=0")
    assert any(name == "progress" and 0 < data["progress"] < 1 for name, data in events)
    assert any(name == "log" and data["event"] == "media_claimed" for name, data in events)


async def test_stream_of_a_finished_media_replays_once_and_then_answers_204(server_with_runner):
    client = server_with_runner
    media = await client.until(await client.faulty())
    path = f"/media/{media['id']}/events"

    async with open_stream(client.api, path) as reader:
        assert await state_names(reader) == ["queued", "started", "completed"]

    again = await client.api.get(path, headers={"last-event-id": reader.last_id})
    assert (again.status_code, again.content) == (204, b"")


async def test_media_stream_resumes_after_the_last_event_id(server_with_runner):
    client = server_with_runner
    media = await client.faulty(delay=1)
    path = f"/media/{media['id']}/events"

    async with open_stream(client.api, path) as reader:
        first = await state_names(reader, until=("started",))
    async with open_stream(client.api, path, reader.last_id) as reader:
        second = await state_names(reader)

    assert first + second == ["queued", "started", "completed"]


async def test_owner_retry_continues_in_the_same_media_stream(server_with_runner):
    client = server_with_runner
    media = await client.until(await client.faulty(fail_with="input_refused", fail_times=9))
    path = f"/media/{media['id']}/events"
    async with open_stream(client.api, path) as reader:
        assert await state_names(reader) == ["queued", "started", "failed"]

    await client.api.post(f"/media/{media['id']}/retry")
    async with open_stream(client.api, path, reader.last_id) as reader:
        assert await state_names(reader) == ["queued", "started", "failed"]
    async with open_stream(client.api, path) as reader:
        types = [data["type"] async for name, data in reader if name not in {"progress", "log"}]

    assert types == ["media.queued", "media.started", "media.failed"] * 2


async def test_owner_stream_misses_and_repeats_nothing_across_api_restarts(settings, runner, tmp_path):
    count, events, last_id = 40, [], None
    requested = []
    for turn in range(3):
        with served(settings, tmp_path / f"api{turn}.log") as address:
            async with httpx2.AsyncClient(base_url=address, timeout=60, trust_env=False) as api:
                client = Client(api)
                await eventually(client.answers)
                async with open_stream(api, "/media/events", last_id) as reader:
                    stream = aiter(reader)
                    if turn < 2:
                        requested += await asyncio.gather(*(client.faulty(delay=0.3) for _ in range(count // 2)))
                    async with asyncio.timeout(30):
                        while len([1 for name, _ in events if name == "completed"]) < (10, 25, count)[turn]:
                            events.append(await anext(stream))
                    last_id = reader.last_id
                    os.kill(address.pid, signal.SIGKILL if turn else signal.SIGTERM)

    assert runner.in_flight == 0
    states = [(name, data["data"]["id"]) for name, data in events if name != "progress"]
    assert len(states) == len(set(states))
    for media in requested:
        assert [name for name, of in states if of == media["id"]][:2] == ["queued", "started"]
    assert len([name for name, _ in states if name == "completed"]) == count


async def test_owner_stream_is_filtered_by_status_model_and_tag(server_with_runner):
    client = server_with_runner
    path = "/media/events?status=canceled,Completed&model=dummy/faulty&tag=blue"
    async with open_stream(client.api, path) as reader:
        await client.until(await client.faulty())
        await client.until(await client.generate(tags=["blue"], input={"width": 64, "height": 64}))
        matching = await client.generate(model="dummy/faulty", tags=["green", "blue"])
        async with asyncio.timeout(30):
            name, data = await anext(aiter(reader))

    assert (name, data["data"]["id"], data["data"]["tags"]) == ("completed", matching["id"], ["green", "blue"])


async def test_stream_continues_from_the_database_without_redis(settings, runner, tmp_path):
    assert runner.in_flight == 0
    with served(settings, tmp_path / "api.log", REDIS_URL="redis://127.0.0.1:9/0") as address:
        async with httpx2.AsyncClient(base_url=address, timeout=60, trust_env=False) as api:
            client = Client(api)
            await eventually(client.answers)
            media = await client.faulty(delay=0.5)
            async with open_stream(api, f"/media/{media['id']}/events") as reader:
                assert await state_names(reader) == ["queued", "started", "completed"]


async def test_disconnected_client_leaves_no_subscription(api, client):
    media = await client.faulty()
    subscriptions = api._transport.app.state.media.subscriptions

    async with connected(api._transport.app, f"/media/{media['id']}/events") as sent:
        await eventually(lambda: asyncio.sleep(0, subscriptions.waiting), lambda count: count == 1)

    assert subscriptions.waiting == 0
    assert "media.queued" in sent()


async def test_stopping_server_ends_its_streams(server, address):
    media = await server.faulty()
    async with open_stream(server.api, f"/media/{media['id']}/events") as reader, asyncio.timeout(10):
        events = aiter(reader)
        assert (await anext(events))[0] == "queued"
        os.kill(address.pid, signal.SIGTERM)
        assert [event async for event in events] == []


@pytest.mark.parametrize("path", ["/media/{id}/events", "/media/events"])
async def test_malformed_last_event_id_is_refused(client, path):
    media = await client.faulty()

    answer = await client.api.get(path.format(**media), headers={"last-event-id": "soon"})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Last-Event-ID")


async def test_last_event_id_of_another_media_is_refused(client, db):
    first, second = await client.faulty(), await client.faulty()
    row = await db.fetchrow("SELECT id FROM media_history WHERE media_id = $1", UUID(second["id"]))
    path = f"/media/{first['id']}/events"

    for number in (row["id"], 999_999_999_999_999_999):
        answer = await client.api.get(path, headers={"last-event-id": f"{number}-0-0"})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Last-Event-ID")


async def test_last_event_id_from_the_future_is_refused(client):
    answer = await client.api.get("/media/events", headers={"last-event-id": "900000000000-1"})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Last-Event-ID")


async def test_streams_never_show_media_of_another_owner(api, client, db):
    own, foreign = await client.faulty(), await client.faulty()
    for table, column in (("media", "id"), ("media_history", "media_id")):
        await db.execute(f"UPDATE {table} SET owner_id = $1 WHERE {column} = $2", UUID(int=7), UUID(foreign["id"]))

    for media_id in (foreign["id"], "019c0a3e-0000-7000-8000-000000000001"):
        answer = await client.api.get(f"/media/{media_id}/events")
        assert (answer.status_code, answer.json()["code"]) == (404, "media_not_found")
    async with connected(api._transport.app, "/media/events", last_event_id="0-0") as sent:
        later = await client.faulty()
        await eventually(lambda: asyncio.sleep(0, sent()), lambda text: later["id"] in text)
    assert (own["id"] in sent(), foreign["id"] in sent()) == (True, False)


async def test_owner_stream_shows_media_requested_through_another_process(settings, db, tmp_path):
    with (
        served(settings, tmp_path / "1.log") as first,
        served(settings, tmp_path / "2.log") as second,
        worker(settings, tmp_path / "w.log"),
    ):
        async with (
            httpx2.AsyncClient(base_url=first, timeout=60, trust_env=False) as api,
            httpx2.AsyncClient(base_url=second, timeout=60, trust_env=False) as other,
        ):
            client = Client(api)
            await eventually(client.answers)
            await eventually(Client(other).answers)
            await eventually(lambda: db.fetch("SELECT id FROM workers"))
            async with open_stream(other, "/media/events?status=COMPLETED") as reader:
                media = await client.faulty(delay=0.2)
                async with asyncio.timeout(20):
                    assert await state_names(reader) == ["completed"]

    assert reader.events[-1][1]["data"]["id"] == media["id"]


async def test_stream_of_a_waiting_media_with_known_progress_does_not_poll_constantly(api, client, db):
    media = await client.faulty()
    # As after a worker that has stopped halfway.
    await db.execute("UPDATE media SET progress = 0.4 WHERE id = $1", UUID(media["id"]))
    app = api._transport.app
    reads, real = [], app.state.media.reads.media

    async def counted(position):
        reads.append(position)
        return await real(position)

    app.state.media.reads.media = counted
    await sent_within(app, f"/media/{media['id']}/events", seconds=2)

    assert 0 < len(reads) < 10


async def test_states_follow_the_order_of_their_ids_whatever_their_times(api, client, db):
    media = await client.faulty()
    for event, status, back in (
        ("claimed", "PROCESSING", 1),
        ("returned", "IN_QUEUE", 9),
        ("claimed", "PROCESSING", 5),
    ):
        await db.execute(
            """INSERT INTO media_history (media_id, owner_id, event, status, at)
            SELECT id, owner_id, $2, $3, now() - make_interval(secs => $4) FROM media WHERE id = $1""",
            *(UUID(media["id"]), event, status, back),
        )

    sent = await sent_within(api._transport.app, f"/media/{media['id']}/events", seconds=0.5)

    ids = [int(line.removeprefix("id: ").split("-")[0]) for line in sent.splitlines() if line.startswith("id: ")]
    assert len(ids) == 4
    assert ids == sorted(ids)


async def test_head_request_gets_no_stream(api, client):
    media = await client.faulty()

    for path in (f"/media/{media['id']}/events", "/media/events"):
        async with asyncio.timeout(5):
            assert await sent_within(api._transport.app, path, seconds=0, method="HEAD") == ""


async def test_silent_stream_sends_pings(api, client, monkeypatch):
    monkeypatch.setattr(event_streams, "PING_SECONDS", 0.2)
    media = await client.faulty()

    for path in (f"/media/{media['id']}/events", "/media/events"):
        async with connected(api._transport.app, path) as sent:
            await eventually(lambda sent=sent: asyncio.sleep(0, sent()), lambda text: text.count(": ping\n") > 1)


@pytest.mark.parametrize("path", ["/media/{id}/events", "/media/events"])
async def test_progress_is_throttled_and_its_last_value_is_always_sent(api, client, db, path):
    media = await client.faulty()
    (owner,) = await db.fetchrow("SELECT owner_id FROM media WHERE id = $1", UUID(media["id"]))
    app = api._transport.app
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with connected(app, path.format(**media)) as sent:
        for step in range(1, 41):
            await db.execute(
                "UPDATE media SET status = 'PROCESSING', progress = $1 WHERE id = $2", step / 100, UUID(media["id"])
            )
            app.state.media.subscriptions._on_changes([Change(UUID(media["id"]), owner)])
            await asyncio.sleep(0.02)
        await eventually(lambda: asyncio.sleep(0, sent()), lambda text: '"progress":0.4}' in text)
        seconds = loop.time() - started

    assert 1 < sent().count("event: progress") <= seconds / 0.5 + 1
