"""Uploads: what is stored, refused, listed, deleted and swept; hostile uploads leave nothing behind."""

import asyncio
import hashlib
from datetime import timedelta

import httpx2
import pytest

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.ids import new_id
from app.main import create_app
from app.media_generator.dummy_media_generator.png import png_of_about
from app.storage.store import ObjectNotFoundError, StoreUnavailableError
from app.uploads.form import MAX_OVERHEAD_BYTES
from app.uploads.service import MAX_CONCURRENT, Uploads, plain_name
from tests.support import PUBLIC_URL, eventually, make_settings

PNG = png_of_about(2_000)
LONG = png_of_about(200_000)
HUGE = PNG[:16] + (20_000).to_bytes(4) * 2 + PNG[24:]
"""Its header claims 20,000 x 20,000 pixels."""
WEBP = b"RIFF" + (92).to_bytes(4, "little") + b"WEBPVP8L" + (80).to_bytes(4, "little") + b"/" + bytes(79)
BOUNDARY = "xXxBoundaryxXx"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(content=PNG, name="a.png", field="file", kind="image/png"):
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\nContent-Type: {kind}'
    return head.encode() + b"\r\n\r\n" + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


async def upload(api, content=PNG, name="a.png", kind="image/png"):
    return await api.post("/files", files={"file": (name, content, kind)})


async def rows(db):
    return await db.fetch("SELECT * FROM uploads")


async def objects(runtime, keys):
    async def there(key):
        try:
            return [chunk async for chunk in runtime.store.get(key)] != []
        except ObjectNotFoundError:
            return False

    return [await there(key) for key in keys]


async def test_upload_has_detected_type_size_and_hash(api, db, runtime):
    answer = await upload(api, name="../../etc/holi\x00day.png", kind="text/html")

    assert answer.status_code == 201, answer.text
    shown = answer.json()
    assert answer.headers["location"] == f"/files/{shown['id']}"
    assert shown["uri"] == f"file:{shown['id']}"
    assert (shown["media_type"], shown["bytes"]) == ("image/png", len(PNG))
    assert shown["sha256"] == hashlib.sha256(PNG).hexdigest()
    assert shown["width"] > 0 < shown["height"]
    assert ".." not in shown["name"]
    assert "/" not in shown["name"]
    assert (await api.get(answer.headers["location"])).json() == shown
    (row,) = await rows(db)
    assert row["key"].startswith("uploads/")
    assert b"".join([chunk async for chunk in runtime.store.get(row["key"])]) == PNG


async def test_same_bytes_are_stored_once_and_extend_expiry(api, db):
    first = (await upload(api)).json()
    await db.execute("UPDATE uploads SET expires_at = now() + interval '1 minute'")
    again = await upload(api, name="b.png")

    assert (again.status_code, again.json()["id"]) == (200, first["id"])
    assert again.json()["expires_at"] >= first["expires_at"]
    assert len(await rows(db)) == 1


async def test_concurrent_uploads_of_same_bytes_are_stored_once(api, db):
    answers = await asyncio.gather(*(upload(api) for _ in range(6)))

    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    assert len(await rows(db)) == 1


async def test_uploads_of_owners_are_separate(api, db):
    shown = (await upload(api)).json()
    await db.execute("UPDATE uploads SET owner_id = $1", new_id())

    assert (await api.get(f"/files/{shown['id']}")).status_code == 404
    assert (await api.delete(f"/files/{shown['id']}")).json()["code"] == "upload_not_found"
    assert (await api.get("/files")).json() == {"items": [], "next_cursor": None}
    assert (await upload(api)).json()["id"] != shown["id"]


async def test_list_of_uploads_is_paged_newest_first(api):
    ids = [(await upload(api, png_of_about(2_000 + 700 * number))).json()["id"] for number in range(3)]

    first = (await api.get("/files", params={"limit": 2})).json()
    second = (await api.get("/files", params={"limit": 2, "cursor": first["next_cursor"]})).json()

    assert [file["id"] for file in first["items"] + second["items"]] == ids[::-1]
    assert second["next_cursor"] is None


async def test_deleting_upload_removes_its_object(api, db, runtime):
    shown = (await upload(api)).json()
    (row,) = await rows(db)

    assert (await api.delete(f"/files/{shown['id']}")).status_code == 204

    assert (await api.get(f"/files/{shown['id']}")).status_code == 404
    assert await rows(db) == []
    assert await objects(runtime, [row["key"]]) == [False]


@pytest.mark.parametrize(
    ("body", "status", "code", "word"),
    [
        (part(b"<html><script>alert(1)</script>") + END, 415, "unsupported_file", "no picture"),
        (part(b"") + END, 415, "unsupported_file", "it is empty"),
        (part(b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>") + END, 415, "unsupported_file", ""),
        (part(b"") + END, 415, "unsupported_file", ""),
        (part(HUGE) + END, 422, "picture_too_large", "20000x20000"),
        (part(PNG[:-20]) + END, 422, "file_cut_off", "its end is missing"),
        (part(PNG[:-1]) + END, 422, "file_cut_off", "image/png"),
        (part(LONG[:-3]) + END, 422, "file_cut_off", "image/png"),
        (part(WEBP[:-9]) + END, 422, "file_cut_off", "image/webp"),
        (part(), 422, "invalid_form", "end"),
        (part()[:-300], 422, "invalid_form", "end"),
        (part() + part(name="b.png") + END, 422, "invalid_form", "one file"),
        (
            part(field="picture") + END,
            422,
            "invalid_form",
            "a field 'picture' that is not known: its only field is 'file'",
        ),
        (part() + part(field="purpose") + END, 422, "invalid_form", "a field 'purpose' that is not known"),
        (part() + part() + END, 422, "invalid_form", "a second 'file': send one file with each request"),
        (
            b'--%b\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc\r\n' % BOUNDARY.encode() + END,
            422,
            "invalid_form",
            "",
        ),
        (END, 422, "invalid_form", ""),
        (b"", 422, "invalid_form", ""),
        (b"\r\n" * 40_000, 422, "invalid_form", ""),
        (part().replace(b"xXxBoundary", b"another") + END, 422, "invalid_form", ""),
        (part(name="n" * 200_000) + END, 422, "invalid_form", "header"),
        (f"--{BOUNDARY}\r\n".encode() + b"X-A: b\r\n" * 2_000 + b"\r\n" + END, 422, "invalid_form", ""),
    ],
)
async def test_invalid_form_or_file_leaves_nothing_behind(api, db, body, status, code, word):
    answer = await api.post("/files", content=body, headers=FORM)

    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert word in answer.json()["detail"]
    assert await rows(db) == []


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 415),
        ("text/plain", 415),
        ("", 415),
        ("multipart/mixed; boundary=x", 415),
        ("multipart/form-data", 422),
        ("multipart/form-data; boundary=", 422),
        ("multipart/form-data; boundary=" + "x" * 71, 422),
    ],
)
async def test_content_type_other_than_form_is_refused(api, kind, status):
    answer = await api.post("/files", content=part() + END, headers={"content-type": kind})

    assert answer.status_code == status, answer.text


@pytest.fixture
async def small(engines, database, bell):
    """An API with MAX_UPLOAD_BYTES=64000."""
    settings = make_settings(engines, database_url=database, max_upload_bytes=64_000)
    app = create_app(settings, bell)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url=PUBLIC_URL) as api:
        yield api


async def test_too_large_content_length_is_refused_unread(small):
    read = []

    async def body():
        read.append(True)
        yield part(PNG + b"x" * 80_000) + END

    length = str(64_001 + MAX_OVERHEAD_BYTES)
    answer = await small.post(
        "/files", content=body(), headers={**FORM, "content-length": length, "expect": "100-continue"}
    )

    assert (answer.status_code, answer.json()["code"], read) == (413, "file_too_large", [])


@pytest.mark.parametrize("endless", [b"x" * 8_000, b"\r\n--xXxBoundaryxX" * 100])
async def test_endless_file_is_cut_off_and_leaves_nothing_behind(small, db, endless):
    async def body():
        yield part()[:-2]
        while True:
            yield endless

    answer = await small.post("/files", content=body(), headers=FORM)

    assert (answer.status_code, answer.json()["code"]) == (413, "file_too_large")
    assert await rows(db) == []


async def test_endless_data_after_the_form_is_cut_off(small, db):
    async def body():
        yield part() + END
        while True:
            yield b"x" * 8_000

    answer = await small.post("/files", content=body(), headers=FORM)

    assert answer.status_code == 413
    assert await rows(db) == []


async def test_refusal_does_not_wait_when_body_is_complete(api, monkeypatch):
    monkeypatch.setattr("app.uploads.api.router.DRAIN_SECONDS", 3_600.0)

    async with asyncio.timeout(60):
        answer = await upload(api, b"no picture", name="a.txt", kind="text/plain")

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_file")


class BrokenStore:
    """A store whose methods named in `broken` fail."""

    def __init__(self, store, *broken):
        self._store = store
        self.broken = set(broken)

    def __getattr__(self, name):
        if name in self.broken:
            return self._fail
        return getattr(self._store, name)

    async def _fail(self, *_args):
        raise StoreUnavailableError("down")


async def stream(*chunks):
    for chunk in chunks:
        yield chunk


async def test_unreachable_store_is_reported_and_sweep_cleans_up(runtime, db):
    uploads = runtime.uploads()
    uploads._store = BrokenStore(runtime.store, "put", "delete")
    with pytest.raises(Exception, match="store does not accept"):
        await uploads.save(DEFAULT_OWNER_ID, "a.png", stream(PNG))
    (left,) = await rows(db)
    assert left["sha256"].startswith("gone:")

    uploads._store = runtime.store
    await db.execute("UPDATE uploads SET expires_at = now()")
    await uploads.sweep()

    assert await rows(db) == []


async def test_sweep_removes_expired_and_incomplete_uploads(runtime, db):
    uploads = runtime.uploads()
    kept = await uploads.save(DEFAULT_OWNER_ID, "a.png", stream(PNG))
    gone = await uploads.save(DEFAULT_OWNER_ID, "b.png", stream(png_of_about(5_000)))
    await db.execute("UPDATE uploads SET expires_at = now() WHERE id = $1", gone.id)
    # As if the process had died after storing the object and before `complete`.
    lost = await uploads.save(DEFAULT_OWNER_ID, "c.png", stream(png_of_about(9_000)))
    await db.execute("UPDATE uploads SET sha256 = 'coming:' || id, expires_at = now() WHERE id = $1", lost.id)

    await uploads.sweep()
    await uploads.sweep()

    assert [row["id"] for row in await rows(db)] == [kept.id]
    assert await objects(runtime, [file.key for file in (kept, gone, lost)]) == [True, False, False]


async def test_upload_whose_object_cannot_be_removed_stays_hidden_and_is_retried(runtime, db):
    uploads = runtime.uploads()
    file = await uploads.save(DEFAULT_OWNER_ID, "a.png", stream(PNG))
    await db.execute("UPDATE uploads SET expires_at = now()")
    uploads._store = BrokenStore(runtime.store, "delete")

    await uploads.sweep()

    assert await uploads.find(DEFAULT_OWNER_ID, file.id) is None
    assert len(await rows(db)) == 1
    # The same bytes become a new file, as the old object may vanish at any time.
    again = await Uploads(db, runtime.store, uploads.limits).save(DEFAULT_OWNER_ID, "a.png", stream(PNG))
    assert again.fresh
    assert again.id != file.id


async def test_worker_sweeps_uploads(product, db):
    await upload(product.api)
    await db.execute("UPDATE uploads SET expires_at = now()")

    await eventually(lambda: rows(db), lambda found: found == [])


async def test_aborted_upload_leaves_nothing_behind(runtime, db):
    async def breaking():
        yield PNG
        yield b"x" * 100_000
        raise ConnectionError("the client is gone")

    with pytest.raises(ConnectionError):
        await runtime.uploads().save(DEFAULT_OWNER_ID, "a.png", breaking())

    assert await rows(db) == []


@pytest.mark.parametrize("size", [1, 5, 70_000])
async def test_end_of_picture_is_found_across_chunks_and_may_have_a_tail(runtime, size):
    whole = LONG + b"what a camera adds"

    async def pieces():
        yield whole[:70_000]
        for start in range(70_000, len(LONG) - 20, 70_000):
            yield whole[start : min(start + 70_000, len(LONG) - 20)]
        for start in range(len(LONG) - 20, len(whole), size):
            yield whole[start : start + size]

    file = await runtime.uploads().save(DEFAULT_OWNER_ID, "a.png", pieces())

    assert file.bytes == len(whole)


async def test_concurrent_uploads_are_limited(runtime, monkeypatch):
    monkeypatch.setattr("app.uploads.service.SLOT_SECONDS", 0.05)
    uploads, go = runtime.uploads(), asyncio.Event()

    async def slow():
        yield PNG + b"x" * 70_000
        await go.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(MAX_CONCURRENT):
            group.create_task(uploads.save(DEFAULT_OWNER_ID, "a.png", slow()))
        await eventually(lambda: asyncio.sleep(0, uploads._slots.locked()))
        with pytest.raises(Exception, match="try again soon") as refused:
            await uploads.save(DEFAULT_OWNER_ID, "b.png", stream(PNG))
        go.set()

    assert refused.value.code == "uploads_busy"


async def test_stalled_upload_times_out(api_of, db):
    api = await api_of(None, request_body_seconds=0.05)

    async def body():
        yield part()[:-2]
        await asyncio.sleep(60)

    answer = await api.post("/files", content=body(), headers=FORM)

    assert (answer.status_code, answer.json()["code"]) == (408, "request_timeout")
    assert await rows(db) == []


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\cat.png", "cat.png"),
        ("a\x00b\r\nc.png", "abc.png"),
        ("...", ""),
        ("", ""),
        ("x" * 300 + ".png", "x" * 196 + ".png"),
        ("\u202egnp.exe", "gnp.exe"),
    ],
)
def test_name_of_upload_is_no_path(given, shown):
    assert plain_name(given) == shown


async def test_large_file_is_streamed(runtime):
    uploads = Uploads(runtime.db, runtime.store, runtime.uploads().limits)
    size = 40 * 1024 * 1024

    async def body():
        yield PNG
        for _ in range(size // 65_536):
            yield b"\x00" * 65_536

    file = await uploads.save(DEFAULT_OWNER_ID, "a.png", body())

    assert file.bytes == len(PNG) + size
    assert file.expires_at - file.created_at > timedelta(hours=47)
