"""What a provider answered is kept and readable where nothing else of a purchase could be."""

import hashlib

import pytest

from app.core.redaction import learn
from app.media_generator.accounts import Account, ProviderSetup
from app.media_generator.catalogue import Catalogue
from app.media_generator.fal_media_generator.provider import FalMediaGeneratorModel
from app.media_generator.openai_media_generator.provider import OpenAIMediaGeneratorModel
from app.media_generator.raw_answers import RecordingHttp
from app.media_generator.registry import Registry
from app.storage.raw_answers import StoredRawAnswers
from app.storage.s3 import S3Store
from fleek.testing import open_http
from tests.providers.fal import SCHNELL, finish_request, picture, respond_json
from tests.providers.server import Server, respond_with
from tests.support import Client, attempts_of

KEY = "fal-id:5up3r-s3cret-0f-fal"


@pytest.fixture
async def server():
    async with Server() as running_server:
        running_server.answers["/fal-ai/flux/schnell"] = respond_json(request_id="req-1")
        running_server.answers["/files/picture.png"] = respond_with(picture())
        yield running_server


@pytest.fixture
async def http():
    async with open_http() as outgoing:
        yield RecordingHttp(outgoing)


@pytest.fixture
def sell(api_of, working):
    """An API and a worker with this provider."""

    async def open_shop(provider):
        await working(provider)
        return Client(await api_of(Registry([provider])))

    return open_shop


@pytest.fixture
async def client(server, http, sell):
    account = Account("fal", {"key": KEY, "base_url": server.url})
    return await sell(
        FalMediaGeneratorModel.open_account(ProviderSetup(account, http, Catalogue().models("fal", "fal")))
    )


async def ask(client, **more):
    return await client.until(await client.generate(model=f"fal/{SCHNELL}", prompt="a lighthouse", **more))


async def test_failure_that_was_paid_for_shows_what_the_provider_answered_without_our_key(client, server):
    finish_request(server, {"detail": "it broke", "seen": {"authorization": f"Key {KEY}"}}, status=422)

    done = await ask(client)

    assert (done["status"], done["error"]["code"]) == ("ERROR", "generation_failed")
    (attempt,) = await attempts_of(client, done)
    assert attempt["answer_url"].endswith(f"/media/{done['id']}/attempts/1/answer")
    answer = await client.api.get(attempt["answer_url"])
    assert answer.json() == {"detail": "it broke", "seen": {"authorization": "Key ***"}}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("attachment")
    other = await client.api.get(f"/media/{done['id']}/attempts/2/answer")
    assert (other.status_code, other.json()["code"]) == (404, "answer_not_found")


async def test_nothing_is_kept_beside_a_result(client, server):
    finish_request(server, {"images": [{"url": f"{server.url}/files/picture.png"}]})

    done = await ask(client)

    assert done["status"] == "COMPLETED"
    (attempt,) = await attempts_of(client, done)
    assert attempt["answer_url"] is None
    for number in (1, 2):
        missing = await client.api.get(f"/media/{done['id']}/attempts/{number}/answer")
        assert (missing.status_code, missing.json()["code"]) == (404, "answer_not_found")


async def test_answer_is_kept_where_one_output_of_several_could_not_be_had(client, server):
    server.answers["/files/gone.png"] = respond_with(b"<html>gone</html>")
    result = {"images": [{"url": f"{server.url}/files/{name}.png"} for name in ("picture", "gone")]}
    finish_request(server, result)

    done = await ask(client)

    assert [file["index"] for file in done["files"]] == [0]
    assert [one["code"] for one in done["warnings"]] == ["outputs_not_kept"]
    (attempt,) = await attempts_of(client, done)
    assert (await client.api.get(attempt["answer_url"])).json() == result


async def test_answer_to_a_submission_that_proves_nothing_is_kept(client, server):
    server.answers["/fal-ai/flux/schnell"] = respond_with(b'{"detail": "gateway says no"}', status=503)

    done = await ask(client)

    assert (done["status"], done["error"]["code"]) == ("ERROR", "outcome_unknown")
    (attempt,) = await attempts_of(client, done)
    assert (attempt["sent"], attempt["status"]) == ("UNKNOWN", "UNKNOWN")
    assert (await client.api.get(attempt["answer_url"])).json() == {"detail": "gateway says no"}


async def test_polls_that_cannot_be_read_end_and_a_retry_asks_again_without_buying(client, server, monkeypatch):
    monkeypatch.setattr("app.jobs.execution.executor.MOST_UNREADABLE", 3)
    server.answers["/fal-ai/flux/requests/req-1/status"] = respond_with(b'{"status": "COMPL')
    done = await ask(client)

    assert (done["status"], done["error"]["code"]) == ("ERROR", "output_invalid")
    assert "cannot be read" in done["error"]["message"]
    (attempt,) = await attempts_of(client, done)
    assert (await client.api.get(attempt["answer_url"])).content == b'{"status": "COMPL'

    finish_request(server, {"images": [{"url": f"{server.url}/files/picture.png"}]})
    await client.api.post(f"/media/{done['id']}/retry")
    again = await client.until(done, "COMPLETED")
    assert again["number_of_tries"] == 1
    assert len([one for one in server.requests if one.method == "POST"]) == 1


async def test_stored_answer_of_a_blocking_provider_stays_where_it_cannot_be_read(server, http, settings, sell):
    store = S3Store(settings)
    account = Account("lab", {"base_url": f"{server.url}/v1", "models": "sdxl"})
    vault = StoredRawAnswers(store)
    client = await sell(OpenAIMediaGeneratorModel.open_account(ProviderSetup(account, http, (), vault)))
    server.answers["/v1/images/generations"] = respond_with(b'{"error": {"message": "the GPU is on fire"}}')
    learn(["the GPU is on"])

    done = await client.until(await client.generate(model="lab/sdxl", prompt="a lighthouse"))

    assert (done["status"], done["error"]["code"]) == ("ERROR", "generation_failed")
    (attempt,) = await attempts_of(client, done)
    assert (await client.api.get(attempt["answer_url"])).json() == {"error": {"message": "*** fire"}}


async def test_another_media_item_does_not_show_the_answer(client, server):
    finish_request(server, {"detail": "it broke"}, status=422)
    done = await ask(client)
    finish_request(server, {"images": [{"url": f"{server.url}/files/picture.png"}]})
    other = await ask(client)

    missing = await client.api.get(f"/media/{other['id']}/attempts/1/answer")

    assert missing.status_code == 404
    assert (await client.api.get(f"/media/{done['id']}/attempts/1/answer")).status_code == 200


async def test_picture_in_place_of_json_is_the_result_of_a_blocking_provider(server, http, settings, sell):
    account = Account("lab", {"base_url": f"{server.url}/v1", "models": "sdxl"})
    vault = StoredRawAnswers(S3Store(settings))
    client = await sell(OpenAIMediaGeneratorModel.open_account(ProviderSetup(account, http, (), vault)))
    server.answers["/v1/images/generations"] = respond_with(picture(), Content_Type="image/png")

    done = await client.until(await client.generate(model="lab/sdxl", prompt="a lighthouse"))

    assert (done["status"], done["files"][0]["media_type"]) == ("COMPLETED", "image/png")
    assert done["files"][0]["sha256"] == hashlib.sha256(picture()).hexdigest()


class Unwritable(StoredRawAnswers):
    """Cannot be written at first, as during an outage of the store."""

    failures = 2

    async def keep(self, attempt_id, chunks, part=""):
        if self.failures:
            self.failures -= 1
            raise OSError("the store is down")
        return await super().keep(attempt_id, chunks, part)


async def test_job_waits_until_the_answer_that_was_paid_for_can_be_stored(client, server, settings, bell):
    keeper = bell.runner._parts.executor._failures._answers
    keeper._vault = vault = Unwritable(S3Store(settings))
    finish_request(server, {"detail": "it broke"}, status=422)

    done = await ask(client)

    assert (done["status"], vault.failures) == ("ERROR", 0)
    (attempt,) = await attempts_of(client, done)
    assert (await client.api.get(attempt["answer_url"])).json() == {"detail": "it broke"}
    assert len([one for one in server.requests if one.method == "POST"]) == 1


async def test_answer_to_another_request_is_never_shown(client, server):
    finish_request(server, {"detail": "it broke"}, status=422)
    server.answers["/fal-ai/flux/requests/req-1"] = respond_with(b"", status=422)

    done = await ask(client)

    # What the status said before is not what the result was answered with.
    (attempt,) = await attempts_of(client, done)
    assert attempt["answer_url"] is None or (await client.api.get(attempt["answer_url"])).content == b""
