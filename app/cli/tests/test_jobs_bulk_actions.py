"""`fleek jobs retry` and `fleek jobs cancel`."""

from app.core.ids import new_id
from app.jobs.scheduling import model_pauses
from tests.fleek_cli import json_lines
from tests.support import attempts_of, eventually


async def test_retry_that_may_be_charged_again_asks_first(product, cli, terminal):
    media = await product.until(await product.faulty(lose_answer="unknown"))

    unasked = await cli("jobs", "retry", media["job_id"])
    refused, refused_status = await terminal("jobs", "retry", media["job_id"], answer="n")
    between = (await product.media(media))["status"]
    agreed, agreed_status = await terminal("jobs", "retry", media["job_id"], answer="y")

    assert (unasked.returncode, unasked.stdout) == (2, "")
    assert unasked.stderr.splitlines()[-1] == "fleek: confirmation needs a terminal; add --yes to proceed without it"
    for said in (unasked.stderr, refused.replace("\n", " "), agreed.replace("\n", " ")):
        assert "1 may have been charged already (payment status unknown)" in said
    assert (refused_status, between, agreed_status) == (1, "ERROR", 0)
    assert "1 retried." in agreed
    assert (await product.until(media, "COMPLETED"))["number_of_tries"] == 2


async def test_retry_of_a_job_that_cost_nothing_does_not_ask(product, cli):
    media = await product.until(await product.faulty(fail_with="input_refused", fail_times=1))
    after = await product.until(await product.faulty())

    done = await cli("jobs", "retry", media["job_id"], after["id"], "--json")

    assert [line["result"] for line in json_lines(done)] == ["retried", "refused"]
    assert "is COMPLETED; only ERROR and CANCELED" in json_lines(done)[1]["detail"]
    assert (done.returncode, done.stderr) == (1, "")


async def test_bulk_retry_takes_the_oldest_first(product, cli):
    failed = [await product.until(await product.faulty(fail_with="input_refused", fail_times=1)) for _ in range(3)]
    unsure = await product.until(await product.faulty(lose_answer="unknown"))

    done = await cli("jobs", "retry", "--error", "input_refused", "--limit", "2", "--yes", "--json")

    assert [line["media_id"] for line in json_lines(done)] == [media["id"] for media in failed[:2]]
    assert (await product.media(failed[2]))["updated_at"] == failed[2]["updated_at"]
    assert (await product.media(unsure))["status"] == "ERROR"


async def test_cancel_reports_the_result_of_each_job(product, db, cli):
    await model_pauses.pause(db, "dummy/painter", "x")
    waiting = await product.generate()
    running = await product.faulty(delay=30)
    finished = await product.until(await product.faulty())
    await eventually(lambda: attempts_of(product, running), lambda attempts: attempts and attempts[0]["external_id"])

    done = await cli("jobs", "cancel", waiting["id"], running["id"], finished["id"], "--json")

    results = {line["media_id"]: (line["result"], line["detail"]) for line in json_lines(done)}
    assert results[waiting["id"]] == ("canceled", "money spent: no")
    assert results[running["id"]] == (
        "cancel_requested",
        "cancel request sent to the provider; money spent: yes so far",
    )
    assert results[finished["id"]][0] == "refused"
    assert done.returncode == 1
    assert (await product.until(running))["status"] == "CANCELED"


async def test_cancel_by_filter_leaves_other_jobs_alone(client, cli, terminal):
    matching, other = await client.faulty(), await client.generate()

    output, status = await terminal("jobs", "cancel", "--model", "dummy/faulty", answer="y")

    assert (status, "1 job of dummy/faulty" in output, "1 canceled." in output) == (0, True, True)
    assert [(await client.media(one))["status"] for one in (matching, other)] == ["CANCELED", "IN_QUEUE"]


async def test_unknown_id_cancels_nothing(client, cli):
    media, unknown = await client.faulty(), new_id()

    done = await cli("jobs", "cancel", media["id"], unknown)

    assert (done.returncode, done.stderr) == (1, f"fleek: no job or media has the id {unknown}; nothing was done\n")
    assert (await client.media(media))["status"] == "IN_QUEUE"
