"""`fleek jobs pause` and `fleek jobs resume`."""

import json

import pytest

from app.core.ids import new_id
from app.jobs.scheduling import model_pauses


async def test_pause_puts_jobs_on_hold_and_resume_returns_them_to_the_queue(client, db, cli):
    for _ in range(3):
        await client.faulty()

    paused = json.loads((await cli("jobs", "pause", "dummy/faulty", "--message", "until noon", "--json")).stdout)
    shown = json.loads((await cli("jobs", "pause", "--json")).stdout)["items"]
    resumed = (await cli("jobs", "resume", "dummy/faulty")).stdout

    assert paused == {"name": "dummy/faulty", "paused": True, "on_hold": 3}
    assert [(one["name"], one["code"], one["message"], one["on_hold"]) for one in shown] == [
        ("dummy/faulty", "paused", "until noon", 3)
    ]
    assert resumed == "dummy/faulty is resumed. Jobs returned to the queue: 3.\n"
    assert await model_pauses.paused(db) == []


@pytest.mark.parametrize("name", ["dummy", "dummy/faulty"])
async def test_pausing_again_without_a_message_keeps_the_message(name, cli):
    for more in (["--message", "until noon"], []):
        await cli("jobs", "pause", name, *more)
    (shown,) = json.loads((await cli("jobs", "pause", "--json")).stdout)["items"]

    assert (shown["name"], shown["message"]) == (name, "until noon")


async def test_resume_of_an_unpaused_model_is_refused(cli):
    await cli("jobs", "pause", "dummy")

    done = await cli("jobs", "resume", "dummy/painter")

    assert (done.returncode, done.stderr) == (1, "fleek: dummy/painter was not paused; paused: dummy\n")


async def test_removed_model_can_be_paused_while_jobs_wait_for_it(request_as, cli):
    await request_as(new_id(), "gone/model")

    assert (await cli("jobs", "pause", "gone")).returncode == 0
    assert (await cli("jobs", "pause", "gone/model")).returncode == 0
