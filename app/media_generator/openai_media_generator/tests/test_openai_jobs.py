"""Jobs at OpenAI through API and worker, lost answers included."""

from datetime import timedelta
from functools import partial

import pytest

from app.media_generator.accounts import Account, ProviderSetup
from app.media_generator.errors import AnswerLostError
from app.media_generator.openai_media_generator.provider import OpenAIMediaGeneratorModel
from app.storage.raw_answers import StoredRawAnswers
from app.storage.s3 import S3Store
from tests.providers.openai import FLARE, FORBIDDEN, PROMPT, answer_with, base64_of, picture
from tests.support import attempts_of, eventually


async def test_job_stores_all_pictures_in_the_bucket(aimock, product):
    prompt = "two boats in a harbour"
    shown = [picture("png", (96, 64)), picture("webp", (64, 64))]
    await aimock.answers(prompt, {"images": [{"b64Json": base64_of(content)} for content in shown]})

    media = await product.generate(model=f"openai/{FLARE}", prompt=prompt, input={"n": 2, "quality": "low"})
    done = await product.until(media)

    assert done["status"] == "COMPLETED", done
    assert [(file["media_type"], file["width"]) for file in done["files"]] == [("image/png", 96), ("image/webp", 64)]
    (arrived,) = await aimock.arrived("POST", "/v1/images/generations", prompt)
    assert arrived["headers"]["authorization"] != ""


class LosesReferences(OpenAIMediaGeneratorModel):
    """Loses the reference of a stored answer, as after a crash or a lost answer of the store."""

    async def submit(self, submission):
        await super().submit(submission)
        raise AnswerLostError("outcome unknown")


async def test_stored_answer_is_found_after_a_lost_reference(aimock, openai_variables, client, working, make):
    await working(make(kind=LosesReferences, base_url=f"{aimock.url}/v1", models=FLARE))
    prompt = "a mill that turns"
    await aimock.answers(prompt, {"images": [{"b64Json": base64_of(picture())}]})

    done = await client.until(await client.generate(model=f"openai/{FLARE}", prompt=prompt))

    assert (done["status"], done["number_of_tries"]) == ("COMPLETED", 1)
    assert len(await aimock.arrived("POST", "/v1/images/generations", prompt)) == 1


class UnreachableAnswers(StoredRawAnswers):
    """Cannot be read, as during an outage of the store."""

    down = True

    async def find(self, attempt_id):
        if self.down:
            raise OSError("the store is down")
        return await super().find(attempt_id)


@pytest.fixture
def own_server(monkeypatch, server, http):
    """The variables and setup of an operator's own server."""
    variables = {"base_url": f"{server.url}/v1", "models": "sdxl", "submit_timeout": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(f"OPENAI_{name.upper()}", value)
    return partial(ProviderSetup, Account("openai", variables), http, ())


@pytest.fixture
async def media_with_lost_answer(base_settings, server, own_server, client, working, monkeypatch):
    """A media item whose answer was lost during an outage of the store, and the vault."""
    monkeypatch.setattr("app.jobs.execution.late_results.PAUSE", timedelta(seconds=0.1))
    vault = UnreachableAnswers(S3Store(base_settings))
    server.answers["/v1/"] = server.drop
    await working(OpenAIMediaGeneratorModel.open_account(own_server(vault)))
    media = await client.until(await client.generate(model="openai/sdxl", prompt=PROMPT))
    assert (media["status"], media["error"]["code"]) == ("ERROR", "outcome_unknown")
    return media, vault


async def test_late_answer_is_stored_and_completes_a_retry_at_no_cost(
    media_with_lost_answer, server, client, vault, db
):
    media, answers = media_with_lost_answer
    (attempt,) = await attempts_of(client, media)
    await db.execute("UPDATE attempts SET look_at = now()")

    # A worker that was disconnected during the call stores the answer when it is back.
    async def chunks():
        yield answer_with(picture())

    await answers.keep(attempt["id"], chunks())
    answers.down = False
    late = await eventually(lambda: client.media(media), lambda seen: seen["files"])
    await client.api.post(f"/media/{media['id']}/retry")
    done = await client.until(media, "COMPLETED")

    assert (attempt["status"], late["status"], late["files"][0]["media_type"]) == ("UNKNOWN", "ERROR", "image/webp")
    assert (done["number_of_tries"], len(server.requests)) == (1, 1)
    assert [one["status"] for one in await attempts_of(client, done)] == ["SUCCEEDED"]
    assert await vault.find(attempt["id"]) is None


async def test_missing_answer_is_looked_up_once_when_the_store_is_back(media_with_lost_answer, server, client, db):
    media, answers = media_with_lost_answer
    answers.down = False
    await db.execute("UPDATE attempts SET look_at = now()")

    await eventually(lambda: db.fetch("SELECT FROM attempts WHERE look_at IS NULL"))

    (attempt,) = await attempts_of(client, media)
    assert (attempt["status"], await client.media(media), len(server.requests)) == ("UNKNOWN", media, 1)


async def test_moderation_refusal_is_reported_and_not_retried(aimock, product):
    media = await product.generate(model=f"openai/{FLARE}", prompt=FORBIDDEN)
    done = await product.until(media)

    assert (done["status"], done["error"]["code"]) == ("ERROR", "content_refused")
    (attempt,) = await attempts_of(product, media)
    assert attempt["sent"] == "NO"
