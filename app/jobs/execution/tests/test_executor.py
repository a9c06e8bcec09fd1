"""One job in a worker: retries, errors, progress, and what it waits for."""

import pytest

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.ids import new_id
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.errors import AnswerLostError
from app.media_generator.registry import Registry
from app.runtime import open_runtime
from app.worker import build_runner
from tests.jobs import attempt_rows, begin_attempt, claim_lease, register_worker
from tests.support import eventually


async def test_provider_that_never_finishes_is_given_up(client, working):
    await working(DummyMediaGeneratorModel(), silence_hours=0.5 / 3600)

    done = await client.until(await client.faulty(hang=True))

    assert (done["status"], done["error"]["code"]) == ("ERROR", "provider_silent")


@pytest.mark.parametrize("prompt", ["a sign that says \\u0000", "back\\\\slashes \\\\u0000", '"\\ud83d"'])
async def test_prompt_that_looks_like_an_escape_is_kept_as_it_is(client, working, prompt):
    await working(DummyMediaGeneratorModel())

    done = await client.until(await client.generate(prompt=prompt, model="dummy/faulty"))

    assert (done["status"], done["prompt"]) == ("COMPLETED", prompt)


class BadGateway(DummyMediaGeneratorModel):
    polls = 0

    async def poll(self, reference):
        self.polls += 1
        if self.polls == 1:
            raise AnswerLostError("502 from a load balancer")
        return await super().poll(reference)


async def test_lost_answer_to_a_poll_does_not_lose_the_purchase(client, working):
    await working(BadGateway())

    done = await client.until(await client.generate(model="dummy/faulty", on_unknown="retry"))

    assert (done["status"], done["number_of_tries"]) == ("COMPLETED", 1)


async def test_request_that_never_reached_the_provider_is_retried(product, db):
    done = await product.until(await product.faulty(fail_times=2, fail_with="unreachable"))

    assert (done["status"], done["number_of_tries"], done["error"]) == ("COMPLETED", 3, None)
    assert [(status, sent) for _, status, sent, _, _ in await attempt_rows(db, done)] == [
        ("FAILED", "NO"),
        ("FAILED", "NO"),
        ("SUCCEEDED", None),
    ]


async def test_media_fails_with_the_reason_after_the_last_attempt(product, settings):
    done = await product.until(await product.faulty(fail_times=100, fail_with="busy"))

    assert (done["status"], done["number_of_tries"]) == ("ERROR", settings.max_tries)
    assert done["error"] == {"code": "provider_busy", "message": "simulated failure, as the input requests"}
    assert done["completed_at"] is not None


@pytest.mark.parametrize(
    ("error", "code", "sent"),
    [
        ("input_refused", "input_refused", "NO"),
        ("unauthorized", "provider_unauthorized", "NO"),
        ("credit", "provider_credit", "NO"),
        ("model_gone", "model_gone", "NO"),
        ("generation_failed", "generation_failed", "YES"),
        ("output_gone", "output_invalid", "YES"),
    ],
)
async def test_error_that_would_recur_or_was_paid_is_not_retried(product, db, error, code, sent):
    done = await product.until(await product.faulty(fail_times=1, fail_with=error))

    assert (done["status"], done["number_of_tries"], done["error"]["code"]) == ("ERROR", 1, code)
    ((_, status, sent_recorded, _, error_code),) = await attempt_rows(db, done)
    assert (status, sent_recorded, error_code) == ("FAILED", sent, code)


async def test_progress_is_shown_while_the_provider_works(product):
    media = await product.faulty(delay=3)

    seen = await eventually(lambda: product.media(media), lambda media: media["progress"])

    assert 0 < seen["progress"] < 1
    assert seen["status"] == "PROCESSING"


async def test_model_missing_on_this_worker_fails_the_job_with_a_reason(product, db):
    await db.execute(
        """INSERT INTO media (id, job_id, owner_id, status, prompt, model, provider, input, metadata, queue)
        VALUES ($1, $2, $3, 'IN_QUEUE', 'p', 'gone/model', 'gone', '{}', '{}', 'network')""",
        media_id := new_id(),
        new_id(),
        DEFAULT_OWNER_ID,
    )

    done = await product.until({"id": media_id})

    assert (done["status"], done["error"]["code"]) == ("ERROR", "model_gone")
    assert "gone/model" in done["error"]["message"]


async def test_open_attempt_waits_for_a_worker_that_has_the_model(client, db, runtime, settings, bell):
    media = await client.faulty()
    dead = await register_worker(db, "dead")
    await begin_attempt(db, await claim_lease(db, dead))
    await db.execute("DELETE FROM workers")

    async with open_runtime(settings, Registry([])) as without_models:
        runner = bell.runner = build_runner(without_models)
        await runner.start()
        await eventually(lambda: db.fetch("SELECT 1 FROM media_history WHERE detail->>'reason' = 'model_missing_here'"))
        await runner.stop()

    ((_, status, *_),) = await attempt_rows(db, media)
    assert ((await client.media(media))["status"], status) == ("IN_QUEUE", "INTENDED")


async def test_store_outage_costs_time_and_no_second_purchase(client, settings, db, bell):
    unreachable = settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"})
    media = await client.faulty()
    async with open_runtime(unreachable) as without_store:
        runner = bell.runner = build_runner(without_store)
        await runner.start()
        await eventually(lambda: db.fetch("SELECT 1 FROM media_history WHERE event = 'returned'"))
        await runner.stop()
    assert (await client.media(media))["status"] in {"IN_QUEUE", "PROCESSING"}

    async with open_runtime(settings) as with_store:
        runner = bell.runner = build_runner(with_store)
        await runner.start()
        done = await client.until(media)
        await runner.stop()

    assert (done["status"], done["number_of_tries"]) == ("COMPLETED", 1)
