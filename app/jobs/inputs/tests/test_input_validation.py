"""Files that a request names: checked before it is accepted."""

from datetime import timedelta
from uuid import UUID

import pytest

from app.core.ids import new_id
from tests.input_files import generate, problem_of, upload

UNKNOWN_ID = UUID(int=7 << 76 | 2 << 62)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("photo.png", "must be an https: URL"),
        ("http://example.com/a.png", "must be an https: URL"),
        ("file:///etc/passwd", "must be an https: URL"),
        ("file:../../secret", "must be an https: URL"),
        ("ftp://example.com/a.png", "must be an https: URL"),
        ("https://127.0.0.1/a.png", "public internet"),
        ("https://[::1]/a.png", "public internet"),
        ("https://169.254.169.254/latest/meta-data", "public internet"),
        ("https://localhost/a.png", "public internet"),
        ("https://2130706433/", "IPv4"),
        ("https://user:pw@example.com/", "user name"),
        ("https://example.com/a b", "percent-encode"),
        ("data:image/png;base64,AAAA", "cannot be used"),
        ("data:image/png;base64,?", "base64"),
        ("data:text/html,<script>alert(1)</script>", "cannot be used"),
        ("data:image/png;base64," + "A" * 300_000, "POST /files"),
        (f"media:{UNKNOWN_ID}", "no media of yours"),
        (f"file:{UNKNOWN_ID}", "no file of yours"),
    ],
)
async def test_invalid_file_reference_is_refused_at_once(client, text, message):
    problem = await problem_of(client, images=[text])

    assert problem["code"] == "invalid_input_file"
    (wrong,) = problem["errors"]
    assert wrong["field"] == "input.images.0"
    assert message in wrong["message"]


async def test_files_and_media_of_other_owners_are_not_found(client, db, start_worker):
    uri = await upload(client)
    await start_worker()
    media = await client.until(await generate(client))
    await db.execute("UPDATE uploads SET owner_id = $1", new_id())
    await db.execute("UPDATE media SET owner_id = $1", new_id())

    problem = await problem_of(client, image=uri, images=[f"media:{media['id']}"])

    assert [wrong["field"] for wrong in problem["errors"]] == ["input.image", "input.images.0"]


async def test_unfinished_media_or_missing_index_is_refused(client, start_worker):
    waiting = await generate(client)
    assert "is IN_QUEUE" in (await problem_of(client, image=f"media:{waiting['id']}"))["detail"]

    await start_worker()
    await client.until(waiting)

    assert "no file 1" in (await problem_of(client, image=f"media:{waiting['id']}#1"))["detail"]


async def test_naming_a_file_extends_its_expiry(client, db):
    uri = await upload(client)
    await db.execute("UPDATE uploads SET expires_at = now() + interval '1 minute'")

    await generate(client, image=uri)

    (row,) = await db.fetch("SELECT expires_at - now() AS left FROM uploads")
    assert row["left"] > timedelta(hours=47)


async def test_repeated_request_with_an_idempotency_key_succeeds_when_its_file_is_gone(client, db):
    body = {"prompt": "a", "model": "dummy/faulty", "input": {"image": await upload(client)}}
    key = {"Idempotency-Key": "order-17"}
    first = await client.api.post("/media/generate", json=body, headers=key)
    await db.execute("UPDATE uploads SET expires_at = now() - interval '1 minute'")

    again = await client.api.post("/media/generate", json=body, headers=key)
    refused = await client.api.post("/media/generate", json=body)

    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert refused.status_code == 422


async def test_number_of_files_is_limited(client):
    assert "one file too many" in (await problem_of(client, images=["https://example.com/a.png"] * 33))["detail"]
