"""`fleek jobs list` and `fleek jobs show`: processes of their own, on real engines."""

import json
import re
from datetime import timedelta
from uuid import UUID

import pytest

from app.core.ids import new_id
from app.jobs.scheduling import model_pauses
from app.jobs.states import MediaStatus
from app.media import operator_queries
from app.media.operator_queries import Filter
from tests.fleek_cli import json_lines
from tests.support import attempts_of, eventually


async def test_list_shows_jobs_of_all_owners_newest_first(client, request_as, cli):
    first = await client.generate()
    second = await request_as(new_id())

    done = await cli("jobs", "list", "--json")

    assert (done.returncode, done.stderr) == (0, "")
    assert [job["job_id"] for job in json_lines(done)] == [str(second.job_id), first["job_id"]]
    assert [job["owner"] for job in json_lines(done)] == [None, "default"]


async def test_list_applies_filters(product, db, cli):
    media = [
        await product.faulty(fail_with="input_refused", fail_times=1),
        await product.generate(input={"width": 64, "height": 64}),
        await product.faulty(),
    ]
    failed, done, old = [UUID((await product.until(one))["id"]) for one in media]
    await db.execute("UPDATE media SET created_at = now() - interval '3 hours' WHERE id = $1", old)

    two_hours = timedelta(hours=2)
    wanted = {
        Filter((MediaStatus.ERROR,)): {failed},
        Filter((MediaStatus.ERROR, MediaStatus.COMPLETED)): {failed, done, old},
        Filter(models=("dummy/painter",)): {done},
        Filter(providers=("nobody",)): set(),
        Filter(error="input_refused"): {failed},
        Filter(older_than=two_hours): {old},
        Filter(newer_than=two_hours, providers=("dummy",)): {failed, done},
    }
    for narrow, expected in wanted.items():
        assert {row.media_id for row in await operator_queries.jobs(db, narrow, limit=9)} == expected, narrow
    options = (
        "--status",
        "error",
        "--status",
        "COMPLETED",
        "--provider",
        "dummy",
        "--newer-than",
        "2h",
        "--limit",
        "1",
    )
    assert [job["media_id"] for job in json_lines(await cli("jobs", "list", "--json", *options))] == [str(done)]


async def test_list_shows_every_column_in_a_pipe_and_what_fits_in_a_terminal(client, cli, terminal):
    media = await client.generate()

    piped = (await cli("jobs", "list")).stdout.splitlines()
    narrow, status = await terminal("jobs", "list")

    assert piped[0].split() == ["JOB", "STATUS", "AGE", "MODEL", "PRIO", "ATTEMPTS", "COST", "OWNER", "ERROR"]
    assert piped[1].split()[:2] == [media["job_id"], "IN_QUEUE"]
    assert (narrow.splitlines()[0].split(), status) == (["JOB", "STATUS", "AGE", "MODEL"], 0)
    assert max(map(len, narrow.splitlines())) <= 80


async def test_show_accepts_a_job_id_and_a_media_id(product, cli):
    media = await product.until(await product.generate(prompt="a [red]fox[/red]", input={"width": 64, "height": 64}))
    await product.until(await product.faulty())
    await eventually(lambda: product.api.get(f"/media/{media['id']}/logs"), lambda seen: len(seen.json()["items"]) >= 4)

    text = (await cli("jobs", "show", media["job_id"])).stdout
    document = json.loads((await cli("jobs", "show", "--json", media["id"])).stdout)

    (attempt,) = await attempts_of(product, media)
    for words in ("COMPLETED", "Its files are in the bucket.", "a [red]fox[/red]", "image/png", attempt["external_id"]):
        assert words in text
    for event in ("requested", "claimed", "completed", "media_claimed", "output_stored"):
        assert event in text
    assert [document["job_id"], document["status"], document["owner"]["name"]] == [
        media["job_id"],
        "COMPLETED",
        "default",
    ]
    assert [one["external_id"] for one in document["attempts"]] == [attempt["external_id"]]
    assert [one["event"] for one in document["history"]] == ["requested", "claimed", "completed"]
    assert document["files"][0]["media_type"] == "image/png"
    assert {"media_claimed", "output_stored"} <= {one["event"] for one in document["log"]}


@pytest.mark.usefixtures("product")
async def test_show_says_what_a_job_waits_for(client, db, cli):
    running = await client.faulty(delay=30)
    await eventually(lambda: attempts_of(client, running), lambda attempts: attempts and attempts[0]["external_id"])
    await model_pauses.pause(db, "dummy/faulty", "until noon")
    paused = await client.faulty()

    async def why(media):
        return json.loads((await cli("jobs", "show", "--json", media["id"])).stdout)["why"]

    assert await why(paused) == "It is not submitted at the moment: until noon (paused)."
    assert re.fullmatch(r"Held by worker .+, last heartbeat \d+s ago; submitted as dummy-.+", await why(running))


async def test_show_says_that_no_worker_runs(client, cli):
    media = await client.faulty()

    document = json.loads((await cli("jobs", "show", "--json", media["id"])).stdout)

    assert document["why"] == "No worker is running: start one with fleek worker."
