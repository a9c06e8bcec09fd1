"""Cog with callbacks: containers that are down or have lost their work, and answers that nobody expects."""

import json

from app.jobs.callbacks import signing_keys
from app.media_generator import adapter_calls
from fleek.providers import CancelAnswer, Reference, Running
from fleek.testing import open_http
from tests.providers.cog import GOOD, account, health, new_submission
from tests.providers.server import Server, respond_with
from tests.support import pieces


async def test_cancel_of_a_lost_prediction_is_canceled(vault):
    async with Server() as server, open_http() as http:
        server.answers |= {"/predictions": respond_with(b"{}", status=202), "/health-check": health()}
        provider = account(server.url, http, vault)
        submission = new_submission()
        reference = await provider.submit(submission)
        server.answers["/predictions"] = respond_with(b"{}", status=404)

        finished = await provider.cancel(reference)
        server.answers["/health-check"] = health(start="second")
        lost = await provider.cancel(reference)
        await provider.take_answer(submission.attempt_id, pieces(GOOD))
        answered = await provider.cancel(reference)

    assert (finished, lost, answered) == (CancelAnswer.TOO_LATE, CancelAnswer.CANCELED, CancelAnswer.TOO_LATE)


async def test_proxy_404_does_not_end_a_purchase(vault):
    async with Server() as server, open_http() as http:
        server.answers["/health-check"] = respond_with(json.dumps("nothing here").encode(), status=404)
        provider = account(server.url, http, vault)
        submission = new_submission()

        outcome = await adapter_calls.poll(provider, Reference(str(submission.attempt_id), {"server": "first"}))

    assert isinstance(outcome, Running)


async def test_unknown_attempt_of_a_completed_media_expects_no_answer(db, client):
    media = await client.faulty()
    (attempt,) = await db.fetch(
        "INSERT INTO attempts (id, media_id, number, status, model, input_hash)"
        " VALUES (gen_random_uuid(), $1, 7, 'UNKNOWN', 'cog/model', '') RETURNING id",
        media["id"],
    )

    waiting = await signing_keys.expects_answer(db, attempt["id"], "cog")
    await db.execute("UPDATE media SET status = 'COMPLETED', completed_at = now() WHERE id = $1", media["id"])

    assert waiting
    assert not await signing_keys.expects_answer(db, attempt["id"], "cog")
