"""`fleek jobs` as an operator runs it: a process of its own, on real engines."""

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
from datetime import timedelta
from uuid import UUID

import pytest

from app.cli.tables import duration, short
from app.core.ids import new_id
from app.jobs.scheduling import model_pauses
from app.jobs.states import MediaStatus
from app.jobs.transitions.request import request
from app.media import operator_queries
from app.media.operator_queries import Filter
from tests.support import attempts_of, environment_of, eventually, new_media
from tests.test_doctor import NOWHERE
from tests.test_up import bare_environment, fleek


@pytest.fixture
def cli(settings, tmp_path):
    """Runs `fleek` beside the API and the runner of this process."""

    async def run(*arguments, **environment):
        surroundings = environment_of(settings) | environment
        return await asyncio.to_thread(fleek, *map(str, arguments), folder=tmp_path, **surroundings)

    return run


@pytest.fixture
def terminal(settings, tmp_path):
    """Runs `fleek` on a terminal of 80 columns and types one answer; the output without colours, and the status."""

    def on_terminal(arguments, answer):
        controller, ours = pty.openpty()
        environment = bare_environment(tmp_path) | environment_of(settings) | {"COLUMNS": "80", "TERM": "xterm"}
        command = [sys.executable, "-P", "-m", "app.cli.main", *map(str, arguments)]
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdin=ours, stdout=ours, stderr=ours, start_new_session=True
        ) as process:
            os.close(ours)
            written = b""
            try:
                while chunk := os.read(controller, 65_536):
                    written += chunk
                    if answer and b"[y/N]" in written:
                        os.write(controller, f"{answer}\n".encode())
                        answer = None
            except OSError:
                pass  # Linux says so when the other side is closed
            finally:
                os.close(controller)
                status = process.wait(30)
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode()).replace("\r\n", "\n"), status

    async def run(*arguments, answer=None):
        return await asyncio.to_thread(on_terminal, arguments, answer)

    return run


def lines_of(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


async def asked_by(db, owner, model="dummy/faulty"):
    new = new_media(model, owner_id=owner)
    await request(db, new)
    return new


async def test_all_owners_jobs_are_listed_newest_first(client, db, cli):
    first = await client.generate()
    second = await asked_by(db, new_id())

    done = await cli("jobs", "list", "--json")

    assert (done.returncode, done.stderr) == (0, "")
    assert [job["job_id"] for job in lines_of(done)] == [str(second.job_id), first["job_id"]]
    assert [job["owner"] for job in lines_of(done)] == [None, "default"]


async def test_a_list_is_narrowed_down(product, db, cli):
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
        assert {row["media_id"] for row in await operator_queries.jobs(db, narrow, limit=9)} == expected, narrow
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
    assert [job["media_id"] for job in lines_of(await cli("jobs", "list", "--json", *options))] == [str(done)]


async def test_a_pipe_gets_every_column_and_a_terminal_what_fits(client, cli, terminal):
    media = await client.generate()

    piped = (await cli("jobs", "list")).stdout.splitlines()
    narrow, status = await terminal("jobs", "list")

    assert piped[0].split() == ["JOB", "STATUS", "AGE", "MODEL", "PRIO", "TRIES", "COST", "OWNER", "ERROR"]
    assert piped[1].split()[:2] == [media["job_id"], "IN_QUEUE"]
    assert (narrow.splitlines()[0].split(), status) == (["JOB", "STATUS", "AGE", "MODEL"], 0)
    assert max(map(len, narrow.splitlines())) <= 80


async def test_one_job_is_explained_by_either_id(product, cli):
    media = await product.until(await product.generate(prompt="a [red]fox[/red]", input={"width": 64, "height": 64}))
    await product.until(await product.faulty())
    await eventually(lambda: product.api.get(f"/media/{media['id']}/logs"), lambda seen: len(seen.json()["items"]) >= 4)

    said = (await cli("jobs", "show", media["job_id"])).stdout
    told = json.loads((await cli("jobs", "show", "--json", media["id"])).stdout)

    (attempt,) = await attempts_of(product, media)
    for words in ("COMPLETED", "Its files are in the bucket.", "a [red]fox[/red]", "image/png", attempt["external_id"]):
        assert words in said
    for event in ("requested", "claimed", "completed", "media_claimed", "output_stored"):
        assert event in said
    assert [told["job_id"], told["status"], told["owner"]["name"]] == [media["job_id"], "COMPLETED", "default"]
    assert [one["external_id"] for one in told["attempts"]] == [attempt["external_id"]]
    assert [one["event"] for one in told["history"]] == ["requested", "claimed", "completed"]
    assert told["files"][0]["media_type"] == "image/png"
    assert {"media_claimed", "output_stored"} <= {one["event"] for one in told["log"]}


@pytest.mark.usefixtures("product")
async def test_what_a_job_waits_for_is_said(client, db, cli):
    running = await client.faulty(delay=30)
    await eventually(lambda: attempts_of(client, running), lambda tries: tries and tries[0]["external_id"])
    await model_pauses.pause(db, "dummy/faulty", "until noon")
    paused = await client.faulty()

    async def why(media):
        return json.loads((await cli("jobs", "show", "--json", media["id"])).stdout)["why"]

    assert await why(paused) == "Nothing is bought for it now: until noon (paused)."
    assert re.fullmatch(r"Worker .+ has it, heard \d+s ago; bought as dummy-.+", await why(running))


async def test_without_a_worker_that_is_what_a_job_waits_for(client, cli):
    media = await client.faulty()

    said = json.loads((await cli("jobs", "show", "--json", media["id"])).stdout)

    assert said["why"] == "No worker reports to the database: start one with fleek worker."


async def test_a_retry_that_may_be_paid_twice_asks_first(product, cli, terminal):
    media = await product.until(await product.faulty(lose_answer="unknown"))

    unasked = await cli("jobs", "retry", media["job_id"])
    refused, refused_status = await terminal("jobs", "retry", media["job_id"], answer="n")
    between = (await product.media(media))["status"]
    agreed, agreed_status = await terminal("jobs", "retry", media["job_id"], answer="y")

    assert (unasked.returncode, unasked.stdout) == (2, "")
    assert unasked.stderr.splitlines()[-1] == "fleek: nobody can be asked here; add --yes"
    for said in (unasked.stderr, refused.replace("\n", " "), agreed.replace("\n", " ")):
        assert "1 may have been paid already (nobody knows)" in said
    assert (refused_status, between, agreed_status) == (1, "ERROR", 0)
    assert "1 retried." in agreed
    assert (await product.until(media, "COMPLETED"))["number_of_tries"] == 2


async def test_a_retry_of_what_cost_nothing_does_not_ask(product, cli):
    media = await product.until(await product.faulty(fail_with="input_refused", fail_times=1))
    after = await product.until(await product.faulty())

    done = await cli("jobs", "retry", media["job_id"], after["id"], "--json")

    assert [line["result"] for line in lines_of(done)] == ["retried", "refused"]
    assert "is COMPLETED; only ERROR and CANCELED" in lines_of(done)[1]["detail"]
    assert (done.returncode, done.stderr) == (1, "")


async def test_many_are_retried_at_once_the_oldest_first(product, cli):
    failed = [await product.until(await product.faulty(fail_with="input_refused", fail_times=1)) for _ in range(3)]
    unsure = await product.until(await product.faulty(lose_answer="unknown"))

    done = await cli("jobs", "retry", "--error", "input_refused", "--limit", "2", "--yes", "--json")

    assert [line["media_id"] for line in lines_of(done)] == [media["id"] for media in failed[:2]]
    assert (await product.media(failed[2]))["updated_at"] == failed[2]["updated_at"]
    assert (await product.media(unsure))["status"] == "ERROR"


async def test_cancelling_says_what_came_of_it(product, db, cli):
    await model_pauses.pause(db, "dummy/painter", "x")
    waiting = await product.generate()
    running = await product.faulty(delay=30)
    over = await product.until(await product.faulty())
    await eventually(lambda: attempts_of(product, running), lambda tries: tries and tries[0]["external_id"])

    done = await cli("jobs", "cancel", waiting["id"], running["id"], over["id"], "--json")

    results = {line["media_id"]: (line["result"], line["detail"]) for line in lines_of(done)}
    assert results[waiting["id"]] == ("canceled", "money spent: no")
    assert results[running["id"]] == ("asked", "its provider is asked; money spent: yes so far")
    assert results[over["id"]][0] == "refused"
    assert done.returncode == 1
    assert (await product.until(running))["status"] == "CANCELED"


async def test_cancelling_by_description_leaves_the_others(client, cli, terminal):
    ours, theirs = await client.faulty(), await client.generate()

    said, status = await terminal("jobs", "cancel", "--model", "dummy/faulty", answer="y")

    assert (status, "1 job of dummy/faulty" in said, "1 canceled." in said) == (0, True, True)
    assert [(await client.media(one))["status"] for one in (ours, theirs)] == ["CANCELED", "IN_QUEUE"]


async def test_nothing_is_done_if_one_of_the_ids_is_unknown(client, cli):
    media, stranger = await client.faulty(), new_id()

    done = await cli("jobs", "cancel", media["id"], stranger)

    assert (done.returncode, done.stderr) == (1, f"fleek: there is no job or media {stranger}; nothing was done\n")
    assert (await client.media(media))["status"] == "IN_QUEUE"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["cancel"], "say which jobs to cancel: ids, or options such as --status or --model"),
        (["cancel", str(UUID(int=7)), "--model", "a/b"], "give ids or options that describe jobs, not both"),
        (["cancel", "--status", "ERROR"], "--status ERROR: only IN_QUEUE and PROCESSING can be canceled"),
        (["list", "--older-than", "soon"], "'soon' is no duration; write it like 90s, 15m, 2h or 1d"),
        (["pause", "dummy/paintr"], "there is no model or provider 'dummy/paintr'; near names: dummy/painter"),
    ],
)
async def test_a_wrong_command_line_is_told_in_one_line(cli, arguments, says):
    done = await cli("jobs", *arguments)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"fleek: {says}")


async def test_pausing_and_resuming_a_model_that_many_wait_for(client, db, cli):
    for _ in range(3):
        await client.faulty()

    paused = json.loads((await cli("jobs", "pause", "dummy/faulty", "--message", "until noon", "--json")).stdout)
    shown = json.loads((await cli("jobs", "pause", "--json")).stdout)["items"]
    said = (await cli("jobs", "resume", "dummy/faulty")).stdout

    assert paused == {"name": "dummy/faulty", "paused": True, "set_apart": 3}
    assert [(one["name"], one["code"], one["message"], one["set_apart"]) for one in shown] == [
        ("dummy/faulty", "paused", "until noon", 3)
    ]
    assert said == "dummy/faulty is resumed. 3 that were set apart are back in their places.\n"
    assert await model_pauses.paused(db) == []


@pytest.mark.parametrize("name", ["dummy", "dummy/faulty"])
async def test_pausing_again_without_a_message_keeps_the_one_that_clients_read(name, cli):
    for more in (["--message", "until noon"], []):
        await cli("jobs", "pause", name, *more)
    (shown,) = json.loads((await cli("jobs", "pause", "--json")).stdout)["items"]

    assert (shown["name"], shown["message"]) == (name, "until noon")


async def test_resuming_what_is_not_paused_is_told(cli):
    await cli("jobs", "pause", "dummy")

    done = await cli("jobs", "resume", "dummy/painter")

    assert (done.returncode, done.stderr) == (1, "fleek: dummy/painter was not paused; paused: dummy\n")


async def test_a_model_that_nobody_offers_any_more_can_be_paused_while_something_waits_for_it(db, cli):
    await asked_by(db, new_id(), "gone/model")

    assert (await cli("jobs", "pause", "gone")).returncode == 0
    assert (await cli("jobs", "pause", "gone/model")).returncode == 0


def test_without_a_database_one_line_says_what_to_change(tmp_path):
    done = fleek("jobs", "list", folder=tmp_path, **NOWHERE)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "fleek: the database does not answer (ConnectionRefusedError): "
        "is PostgreSQL running, and are DATABASE_URL or POSTGRES_* right?\n"
    )


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("fleek jobs list --status ", list(MediaStatus)),
        ("fleek jobs list --status pro", ["PROCESSING"]),
        ("fleek jobs pause dummy/", ["dummy/faulty", "dummy/painter"]),
        ("fleek jobs p", ["pause"]),
    ],
)
def test_the_shell_completes_statuses_and_models(line, offered, tmp_path):
    words = line.split()
    number = len(words) if line.endswith(" ") else len(words) - 1
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import sys; sys.argv = ['fleek']; from app.cli.main import main; main()"],
        cwd=tmp_path,
        env=bare_environment(tmp_path)
        | {"_FLEEK_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(number)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.stdout.split(), done.stderr) == (offered, "")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1.5d", 129_600)])
def test_durations_are_read_and_said(text, seconds):
    assert duration(text).total_seconds() == seconds
    assert duration(short(duration(text))).total_seconds() == pytest.approx(seconds, rel=0.4)
