"""Event streams: states at once, nothing missed and nothing twice over a break, an end after the final event."""

import asyncio
import contextlib
import os
import signal
from uuid import UUID

import asyncpg
import httpx2
import msgspec
import pytest

from app.core.database.pool import Change
from app.media.api import stream_clock
from app.media.events import history
from app.media.events.history import MediaLook, OwnerLook
from tests.support import Client, eventually, served, worker


class Reader:
    """Reads one stream, as the standard says."""

    def __init__(self, lines, wanted=None):
        self._lines = lines
        self._wanted = wanted
        self.last_id = ""
        self.events = []
        self.comments = 0

    async def __aiter__(self):
        name, data = "", []
        async for line in self._lines:
            if not line:
                if data:
                    event = (name, msgspec.json.decode("\n".join(data)))
                    self.events.append(event)
                    yield event
                name, data = "", []
            elif line.startswith(":"):
                self.comments += 1
            else:
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    data.append(value)
                elif field == "id":
                    self.last_id = value


@contextlib.asynccontextmanager
async def reading(api, path, last_id=None):
    headers = {"last-event-id": last_id} if last_id else {}
    async with api.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Reader(answer.aiter_lines())


async def names_of(reader, *, until=("completed", "failed", "canceled"), states_only=True):
    names = []
    async with asyncio.timeout(30):
        async for name, _ in reader:
            if not states_only or name not in {"progress", "log"}:
                names.append(name)
            if name in until:
                break
    return names


@pytest.fixture
def address(settings, tmp_path):
    with served(settings, tmp_path / "api.log") as found:
        yield found


@pytest.fixture
async def server(address):
    """The API in a process of its own: a stream needs a real connection."""
    async with httpx2.AsyncClient(base_url=address, timeout=60) as api:
        client = Client(api)
        await eventually(client.answers)
        yield client


@pytest.fixture
async def worked(server, runner):
    """The same with a worker in this process."""
    assert runner.in_flight == 0
    return server


async def test_a_media_is_told_from_its_first_event_to_its_last_and_then_the_stream_ends(server, settings, tmp_path):
    media = await server.faulty(delay=2)

    with worker(settings, tmp_path / "worker.log"):
        async with reading(server.api, f"/media/{media['id']}/events") as reader, asyncio.timeout(40):
            told = [event async for event in reader]

    states = [data for name, data in told if name not in {"progress", "log"}]
    assert [data["type"] for data in states] == ["media.queued", "media.started", "media.completed"]
    assert [data["sequence"] for data in states] == sorted(data["sequence"] for data in states)
    last = told[-1]
    assert (last[0], last[1]["data"]["status"], len(last[1]["data"]["files"])) == ("completed", "COMPLETED", 1)
    assert last[1]["data"]["files"][0]["url"].endswith(f"/media/content/{media['id']}?index=0")
    assert any(name == "progress" and 0 < data["progress"] < 1 for name, data in told)
    assert any(name == "log" and data["event"] == "media_claimed" for name, data in told)


async def test_what_is_over_is_told_again_and_once_known_not_at_all(worked):
    media = await worked.until(await worked.faulty())
    path = f"/media/{media['id']}/events"

    async with reading(worked.api, path) as reader:
        assert await names_of(reader) == ["queued", "started", "completed"]

    again = await worked.api.get(path, headers={"last-event-id": reader.last_id})
    assert (again.status_code, again.content) == (204, b"")


async def test_a_stream_goes_on_after_the_last_event_of_the_one_before(worked):
    media = await worked.faulty(delay=1)
    path = f"/media/{media['id']}/events"

    async with reading(worked.api, path) as reader:
        first = await names_of(reader, until=("started",))
    async with reading(worked.api, path, reader.last_id) as reader:
        second = await names_of(reader)

    assert first + second == ["queued", "started", "completed"]


async def test_a_retry_of_its_owner_goes_on_in_the_same_stream(worked):
    media = await worked.until(await worked.faulty(fail_with="input_refused", fail_times=9))
    path = f"/media/{media['id']}/events"
    async with reading(worked.api, path) as reader:
        assert await names_of(reader) == ["queued", "started", "failed"]

    await worked.api.post(f"/media/{media['id']}/retry")
    async with reading(worked.api, path, reader.last_id) as reader:
        assert await names_of(reader) == ["queued", "started", "failed"]
    async with reading(worked.api, path) as reader:
        told = [data["type"] async for name, data in reader if name not in {"progress", "log"}]

    assert told == ["media.queued", "media.started", "media.failed"] * 2


async def test_all_media_of_an_owner_are_told_without_gap_and_double_across_restarts_of_the_api(
    settings, runner, tmp_path
):
    count, told, last_id = 40, [], None
    asked = []
    for turn in range(3):
        with served(settings, tmp_path / f"api{turn}.log") as address:
            async with httpx2.AsyncClient(base_url=address, timeout=60) as api:
                client = Client(api)
                await eventually(client.answers)
                async with reading(api, "/media/events", last_id) as reader:
                    events = aiter(reader)
                    if turn < 2:
                        asked += await asyncio.gather(*(client.faulty(delay=0.3) for _ in range(count // 2)))
                    async with asyncio.timeout(30):
                        while len([1 for name, _ in told if name == "completed"]) < (10, 25, count)[turn]:
                            told.append(await anext(events))
                    last_id = reader.last_id
                    os.kill(address.pid, signal.SIGKILL if turn else signal.SIGTERM)

    assert runner.in_flight == 0
    states = [(name, data["data"]["id"]) for name, data in told if name != "progress"]
    assert len(states) == len(set(states))
    for media in asked:
        assert [name for name, of in states if of == media["id"]][:2] == ["queued", "started"]
    assert len([name for name, _ in states if name == "completed"]) == count


async def test_an_owners_stream_can_be_narrowed(worked):
    path = "/media/events?status=COMPLETED&model=dummy/faulty&tag=blue"
    async with reading(worked.api, path) as reader:
        await worked.until(await worked.faulty())
        await worked.until(await worked.generate(tags=["blue"], input={"width": 64, "height": 64}))
        wanted = await worked.generate(model="dummy/faulty", tags=["green", "blue"])
        async with asyncio.timeout(30):
            name, data = await anext(aiter(reader))

    assert (name, data["data"]["id"], data["data"]["tags"]) == ("completed", wanted["id"], ["green", "blue"])


async def test_what_commits_later_under_a_lower_number_is_not_missed(db, client, settings):
    media = await client.faulty()
    owner = UUID("00000000-0000-7000-8000-000000000001")
    begun = await history.newest_transaction(db) - 1
    insert = """INSERT INTO media_history (media_id, owner_id, event, status)
        VALUES ($1, $2, 'claimed', 'PROCESSING') RETURNING id"""
    slow = await asyncpg.connect(settings.database_dsn)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(slow.close)
        transaction = slow.transaction()
        await transaction.start()
        lower = await slow.fetchval(insert, UUID(media["id"]), owner)
        higher = (await db.fetchrow(insert, UUID(media["id"]), owner))["id"]

        hidden = (await history.look_at_owners(db, [OwnerLook(owner, begun, 2**53)]))[0]
        await transaction.commit()
        shown = (await history.look_at_owners(db, [OwnerLook(owner, begun, 2**53)]))[0]

    assert lower < higher
    assert (hidden.history, hidden.hidden) == ([], True)
    assert [row.id for row in shown.history] == [lower, higher]


async def test_without_redis_a_stream_goes_on_from_the_database(settings, runner, tmp_path):
    assert runner.in_flight == 0
    with served(settings, tmp_path / "api.log", REDIS_URL="redis://127.0.0.1:9/0") as address:
        async with httpx2.AsyncClient(base_url=address, timeout=60) as api:
            client = Client(api)
            await eventually(client.answers)
            media = await client.faulty(delay=0.5)
            async with reading(api, f"/media/{media['id']}/events") as reader:
                assert await names_of(reader) == ["queued", "started", "completed"]


async def test_a_client_that_goes_leaves_nothing_behind(api, client):
    media = await client.faulty()
    watch = api._transport.app.state.desk.watch
    gone = asyncio.Event()
    messages = []

    async def receive():
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        messages.append(message)

    path = f"/media/{media['id']}/events"
    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", "root_path": ""}
    stream = asyncio.create_task(api._transport.app(scope, receive, send))
    await eventually(lambda: asyncio.sleep(0, watch.waiting), lambda count: count == 1)
    gone.set()
    async with asyncio.timeout(5):
        await stream

    assert watch.waiting == 0
    assert b"media.queued" in b"".join(message.get("body", b"") for message in messages)


async def test_a_server_that_is_told_to_stop_ends_its_streams(server, address):
    media = await server.faulty()
    async with reading(server.api, f"/media/{media['id']}/events") as reader, asyncio.timeout(10):
        events = aiter(reader)
        assert (await anext(events))[0] == "queued"
        os.kill(address.pid, signal.SIGTERM)
        assert [event async for event in events] == []


@pytest.mark.parametrize("path", ["/media/{id}/events", "/media/events"])
async def test_an_id_of_another_stream_is_refused(client, path):
    media = await client.faulty()

    answer = await client.api.get(path.format(**media), headers={"last-event-id": "soon"})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Last-Event-ID")


async def test_an_event_of_another_media_is_no_place_to_go_on(client, db):
    first, second = await client.faulty(), await client.faulty()
    row = await db.fetchrow("SELECT id FROM media_history WHERE media_id = $1", UUID(second["id"]))
    path = f"/media/{first['id']}/events"

    for number in (row["id"], 999_999_999_999_999_999):
        answer = await client.api.get(path, headers={"last-event-id": f"{number}-0-0"})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Last-Event-ID")


async def test_nobody_elses_media_is_told(api, client, db):
    mine, not_mine = await client.faulty(), await client.faulty()
    for table, column in (("media", "id"), ("media_history", "media_id")):
        await db.execute(f"UPDATE {table} SET owner_id = $1 WHERE {column} = $2", UUID(int=7), UUID(not_mine["id"]))

    for media_id in (not_mine["id"], "019c0a3e-0000-7000-8000-000000000001"):
        answer = await client.api.get(f"/media/{media_id}/events")
        assert (answer.status_code, answer.json()["code"]) == (404, "media_not_found")
    async with streaming(api._transport.app, "/media/events", last_event_id="0-0") as told:
        later = await client.faulty()
        await eventually(lambda: asyncio.sleep(0, told()), lambda text: later["id"] in text)
    assert (mine["id"] in told(), not_mine["id"] in told()) == (True, False)


async def test_two_processes_tell_the_same(settings, db, tmp_path):
    with (
        served(settings, tmp_path / "1.log") as first,
        served(settings, tmp_path / "2.log") as second,
        worker(settings, tmp_path / "w.log"),
    ):
        async with (
            httpx2.AsyncClient(base_url=first, timeout=60) as api,
            httpx2.AsyncClient(base_url=second, timeout=60) as other,
        ):
            client = Client(api)
            await eventually(client.answers)
            await eventually(Client(other).answers)
            await eventually(lambda: db.fetch("SELECT id FROM workers"))
            async with reading(other, "/media/events?status=COMPLETED") as reader:
                media = await client.faulty(delay=0.2)
                async with asyncio.timeout(20):
                    assert await names_of(reader) == ["completed"]

    assert reader.events[-1][1]["data"]["id"] == media["id"]


@contextlib.asynccontextmanager
async def streaming(app, path, *, method="GET", last_event_id=None):
    """What the application has sent so far, to a client that is there inside the block."""
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


async def told_in_process(app, path, *, seconds, method="GET"):
    """What the application sends in so many seconds."""
    async with streaming(app, path, method=method) as told:
        await asyncio.sleep(seconds)
    return told()


async def test_a_media_that_waits_with_its_progress_known_costs_no_look_after_the_other(api, client, db):
    media = await client.faulty()
    # As after a worker that has stopped in the middle.
    await db.execute("UPDATE media SET progress = 0.4 WHERE id = $1", UUID(media["id"]))
    app = api._transport.app
    looks, real = [], app.state.desk.feed.media

    async def counted(look):
        looks.append(look)
        return await real(look)

    app.state.desk.feed.media = counted
    await told_in_process(app, f"/media/{media['id']}/events", seconds=2)

    assert len(looks) < 10


async def test_states_are_told_in_the_order_of_their_ids_whatever_their_times_say(api, client, db):
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

    told = await told_in_process(api._transport.app, f"/media/{media['id']}/events", seconds=0.5)

    ids = [int(line.removeprefix("id: ").split("-")[0]) for line in told.splitlines() if line.startswith("id: ")]
    assert len(ids) == 4
    assert ids == sorted(ids)


async def test_head_is_answered_without_a_stream(api, client):
    media = await client.faulty()

    for path in (f"/media/{media['id']}/events", "/media/events"):
        async with asyncio.timeout(5):
            assert await told_in_process(api._transport.app, path, seconds=0, method="HEAD") == ""


async def test_an_id_from_the_future_is_refused(client):
    answer = await client.api.get("/media/events", headers={"last-event-id": "900000000000-1"})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Last-Event-ID")


async def test_streams_that_look_for_the_same_share_what_is_seen(client, db):
    media = await client.faulty()
    owner = UUID("00000000-0000-7000-8000-000000000001")
    one, other = MediaLook(UUID(media["id"]), 0, 0, 0), MediaLook(UUID(int=1), 0, 0, 0)

    first, nothing, second = await history.look_at_media(db, [one, other, one])
    old, new, again = await history.look_at_owners(
        db, [OwnerLook(owner, 0, 0), OwnerLook(owner, 2**40, 0), OwnerLook(owner, 0, 0)]
    )

    assert (first is second, len(first.history), nothing) == (True, 1, None)
    assert (old is again, len(old.history), new.history) == (True, 1, [])


async def test_a_silence_is_broken_by_comments(api, client, monkeypatch):
    monkeypatch.setattr(stream_clock, "PING_SECONDS", 0.2)
    media = await client.faulty()

    for path in (f"/media/{media['id']}/events", "/media/events"):
        async with streaming(api._transport.app, path) as told:
            await eventually(lambda told=told: asyncio.sleep(0, told()), lambda text: text.count(": ping\n") > 1)


@pytest.mark.parametrize("path", ["/media/{id}/events", "/media/events"])
async def test_progress_is_told_now_and_then_and_its_last_value_for_certain(api, client, db, path):
    media = await client.faulty()
    (owner,) = await db.fetchrow("SELECT owner_id FROM media WHERE id = $1", UUID(media["id"]))
    app = api._transport.app
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with streaming(app, path.format(**media)) as told:
        for step in range(1, 41):
            await db.execute(
                "UPDATE media SET status = 'PROCESSING', progress = $1 WHERE id = $2", step / 100, UUID(media["id"])
            )
            app.state.desk.watch._heard([Change(UUID(media["id"]), owner)])
            await asyncio.sleep(0.02)
        await eventually(lambda: asyncio.sleep(0, told()), lambda text: '"progress":0.4}' in text)
        seconds = loop.time() - begun

    assert 1 < told().count("event: progress") <= seconds / 0.5 + 1
