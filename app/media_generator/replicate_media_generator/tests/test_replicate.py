"""Replicate: every rule for providers, callbacks, lost answers, and a real Cog server behind the gateway."""

import asyncio
import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx2
import jsonschema_rs
import pytest
import replicate as official
import uvicorn

from app.core.ids import new_id
from app.jobs.callbacks import signing_keys
from app.main import create_app
from app.media_generator.accounts import Account, ProviderSetup
from app.media_generator.callbacks import Callback
from app.media_generator.catalogue import Catalogue
from app.media_generator.registry import Registry
from app.media_generator.replicate_media_generator.provider import ReplicateMediaGeneratorModel
from app.media_generator.replicate_media_generator.wire import Prediction, files, progress, wait_in_text
from fleek.providers import (
    BusyError,
    CallbackRefusedError,
    CancelAnswer,
    Canceled,
    Candidates,
    Failed,
    InputFile,
    ModelCard,
    ModelGoneError,
    Reference,
    Running,
    Submission,
    Succeeded,
    UnreadableAnswerError,
)
from fleek.testing import ProviderContract, Trouble, open_http
from tests.providers.cog_server import cog_server
from tests.providers.replicate_gateway import SECRET, TOKEN, Gateway, cog
from tests.providers.server import Server, respond_with
from tests.support import Client, attempts_of, eventually, make_settings

PAINTER = ModelCard(
    name="cog/painter",
    title="The tests' predictor",
    description="",
    output_types=("image/png",),
    input_schema={
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "width": {"type": "integer", "default": 64},
            "delay": {"type": "number"},
            "fail": {"type": "boolean"},
            "count": {"type": "integer"},
        },
    },
    example={"width": 64},
)
VERSIONED = replace(PAINTER, name="a/versioned", version="7" * 64)


def account(gateway, http, **variables):
    settings = {"api_token": TOKEN, "base_url": f"{gateway.url}/v1", "submit_seconds": "1.5", "answer_seconds": "5"}
    return ProviderSetup(Account("replicate", settings | variables), http, (PAINTER, VERSIONED))


@pytest.fixture
async def gateway():
    async with Gateway() as running:
        yield running


@pytest.fixture
async def provider(gateway):
    async with open_http() as http:
        yield ReplicateMediaGeneratorModel.open_account(account(gateway, http))


def new_submission(**given):
    return Submission(new_id(), 1, "cog/painter", "a lighthouse", given)


async def ended(provider, reference):
    async def look():
        return await provider.poll(reference)

    return await eventually(look, lambda outcome: not isinstance(outcome, Running))


class TestReplicate(ProviderContract):
    @pytest.fixture
    async def gateway(self):
        async with Gateway() as running:
            yield running

    @pytest.fixture
    async def provider(self, gateway):
        self.running = gateway
        async with open_http() as http:
            yield ReplicateMediaGeneratorModel.open_account(account(gateway, http))

    async def troubled(self, provider, trouble):
        if trouble is Trouble.NOT_REACHED:
            await self.running.__aexit__()
        self.running.trouble = trouble
        return self.usual(provider)

    async def bought(self):
        return len(self.running.predictions)


async def test_gateway_is_compatible_with_the_official_client(gateway):
    client, stranger = (official.Client(api_token=token, base_url=gateway.url) for token in (TOKEN, "wrong"))

    made = await client.models.predictions.async_create("cog/painter", {"prompt": "x"})
    await gateway.settled()
    await made.async_reload()
    listed = await client.predictions.async_list()
    model = await client.models.async_get("cog/painter")

    assert (made.status, len(made.output)) == ("succeeded", 1)
    assert [one.id for one in listed] == [made.id]
    assert model.latest_version.openapi_schema["components"]
    with pytest.raises(official.exceptions.ReplicateError, match="valid authentication"):
        await stranger.models.async_get("cog/painter")
    for one in (client, stranger):
        await one._async_client.aclose()


async def test_model_is_called_by_name_or_by_version(gateway, provider):
    named = await provider.submit(new_submission())
    versioned = await provider.submit(Submission(new_id(), 1, "a/versioned", "a lighthouse", {}))

    paths = [path for method, path, _ in gateway.requests if method == "POST"]
    assert paths == ["/v1/models/cog/painter/predictions", "/v1/predictions"]
    assert gateway.predictions[named.external_id]["input"] == {"prompt": "a lighthouse"}
    assert gateway.predictions[versioned.external_id]["version"] == "7" * 64


async def test_deadline_is_sent_as_cancel_after(gateway, provider):
    submission = Submission(new_id(), 1, "cog/painter", "x", {}, None, timedelta(seconds=90.7))

    await provider.submit(submission)

    (sent,) = [names for method, _, names in gateway.requests if method == "POST"]
    assert sent["cancel-after"] == "90s"
    assert sent["connection"] == "close"


async def test_retry_after_is_read_from_the_refusal_message(gateway, provider):
    gateway.trouble = "busy"

    with pytest.raises(BusyError) as refusal:
        await provider.submit(new_submission())

    assert refusal.value.retry_after == timedelta(seconds=7)


@pytest.mark.parametrize(
    "page", [b"<html>", b"{}", b'"caf\xe9"', b"[" * 100_000], ids=["page", "{}", "latin-1", "nested"]
)
async def test_unreadable_answer_settles_nothing(page):
    async with open_http() as http, Server() as failing:
        failing.answers["/v1/"] = respond_with(page)
        settings = {"api_token": TOKEN, "base_url": f"{failing.url}/v1"}
        provider = ReplicateMediaGeneratorModel.open_account(
            ProviderSetup(Account("replicate", settings), http, (PAINTER,))
        )

        with pytest.raises(UnreadableAnswerError):
            await provider.poll(Reference("reference"))


async def test_units_are_reported(gateway, provider):
    outcome = await ended(provider, await provider.submit(new_submission()))

    assert isinstance(outcome, Succeeded)
    assert outcome.units == {"output": 1, "second": 1.25}


async def test_find_searches_all_pages_and_returns_all_that_are_alike(gateway, provider):
    started = datetime.now(UTC)
    submission = new_submission(width=99)
    reference = await provider.submit(submission)
    for width in range(5):
        await provider.submit(new_submission(width=width))

    assert await provider.find(submission, started) == Candidates((reference,))
    assert await provider.find(new_submission(width=1000), started) is None
    again = await provider.submit(new_submission(width=99))
    found = await provider.find(submission, started)
    assert {one.external_id for one in found.alike} == {reference.external_id, again.external_id}


async def test_find_ignores_predictions_older_than_the_intent_by_any_clock(gateway, provider):
    await provider.submit(new_submission())

    assert await provider.find(new_submission(), datetime.now(UTC) + timedelta(minutes=1)) is not None
    assert await provider.find(new_submission(), datetime.now(UTC) + timedelta(minutes=3)) is None


async def test_find_ignores_predictions_after_the_submit_window(gateway, provider):
    await provider.submit(new_submission())

    assert await provider.find(new_submission(), datetime.now(UTC) - timedelta(hours=2)) is None
    (query,) = [query for method, path, query in gateway.queries if (method, path) == ("GET", "/v1/predictions")]
    assert set(query) == {"created_after", "created_before"}


async def test_find_is_in_doubt_if_inputs_were_deleted(gateway, provider):
    started = datetime.now(UTC)
    reference = await provider.submit(new_submission())
    await gateway.settled()
    gateway.predictions[reference.external_id] |= {"input": {}, "output": None, "data_removed": True}

    found = await provider.find(new_submission(), started)
    assert (found.alike, found.doubtful) == ((), (reference,))
    assert "deleted" in found.why
    assert await provider.find(Submission(new_id(), 1, "a/versioned", "a lighthouse", {}), started) is None


async def test_find_is_in_doubt_if_only_file_urls_differ(gateway, provider):
    started = datetime.now(UTC)
    sent, raw, other = (
        new_submission(width=9, image=name) for name in ("https://x.y/1?signed", "media:7", "https://x.y/2")
    )
    reference = await provider.submit(sent)

    assert await provider.find(sent, started) == Candidates((reference,))
    for submission in (raw, other):
        found = await provider.find(submission, started)
        assert (found.alike, found.doubtful) == ((), (reference,))
        assert "file" in found.why
    assert await provider.find(new_submission(width=8, image="media:7"), started) is None
    another = await provider.submit(other)
    # A URL may be changed by Replicate, so the other one may be it, too.
    found = await provider.find(sent, started)
    assert (found.alike, found.doubtful) == ((reference,), (another,))
    listed = await provider.submit(new_submission(images=["https://x.y/1?signed", "https://x.y/2?signed"]))
    found = await provider.find(new_submission(images=["media:7", "media:8"]), started)
    assert listed in found.doubtful
    assert listed not in (await provider.find(new_submission(images=["media:7"]), started)).doubtful


@pytest.mark.parametrize("status", ["failed", "canceled"])
async def test_find_adopts_nothing_that_failed_or_was_canceled(gateway, provider, status):
    started = datetime.now(UTC)
    reference = await provider.submit(new_submission())
    await gateway.settled()
    gateway.predictions[reference.external_id]["status"] = status

    found = await provider.find(new_submission(), started)

    assert (found.alike, found.doubtful) == ((), (reference,))


async def test_find_ignores_predictions_that_ended_before_the_intent(gateway, provider):
    reference = await provider.submit(new_submission())
    await gateway.settled()
    intended = datetime.now(UTC) + timedelta(minutes=4)
    gateway.predictions[reference.external_id] |= {
        "created_at": intended.isoformat(),
        "completed_at": (intended - timedelta(minutes=3)).isoformat(),
    }

    assert await provider.find(new_submission(), intended) is None


async def test_find_is_in_doubt_about_what_has_more_than_was_submitted(gateway, provider):
    started = datetime.now(UTC)
    reference = await provider.submit(new_submission(count=1))

    found = await provider.find(new_submission(), started)
    gateway.predictions[reference.external_id]["input"] |= {"count": None, "width": 64}  # nothing, and a default
    same = await provider.find(new_submission(), started)

    assert (found.alike, found.doubtful) == ((), (reference,))
    assert "'count'" in found.why
    assert same == Candidates((reference,))


def test_requests_look_alike_where_replicate_sees_no_difference(provider):
    unprompted = replace(PAINTER, options={"prompt": None})
    tagged = replace(PAINTER, name=f"{PAINTER.name}:tag")

    assert provider.likeness(unprompted, "a cat", {}) == provider.likeness(unprompted, "a dog", {})
    assert provider.likeness(tagged, "a cat", {}) == provider.likeness(PAINTER, "a cat", {})
    assert provider.likeness(PAINTER, "a cat", {}) != provider.likeness(PAINTER, "a dog", {})
    assert provider.likeness(PAINTER, "a cat", {"width": 1}) != provider.likeness(PAINTER, "a cat", {})


async def test_find_believes_the_callback_url_where_it_is_told(gateway, provider):
    started, submission = datetime.now(UTC), new_submission()
    ours, others = await provider.submit(submission), await provider.submit(new_submission())
    base = "https://fleek.example/media/callbacks/replicate"
    gateway.predictions[others.external_id]["webhook"] = f"{base}/{new_id()}/00"

    assert await provider.find(submission, started) == Candidates((ours,))
    gateway.predictions[ours.external_id]["webhook"] = f"{base}/{submission.attempt_id}/00"
    assert await provider.find(submission, started) == ours
    assert await provider.find(new_submission(), started) is None


async def test_find_ignores_predictions_from_the_web_site(gateway, provider):
    started = datetime.now(UTC)
    made = await provider.submit(new_submission())
    gateway.predictions[made.external_id]["source"] = "web"

    assert await provider.find(new_submission(), started) is None


@pytest.mark.parametrize("changes", [{"version": "7" * 64}, {"version": "hidden", "model": "a/versioned"}])
async def test_find_matches_version_or_model_of_a_hidden_version(gateway, provider, changes):
    started = datetime.now(UTC)
    submission = Submission(new_id(), 1, "a/versioned", "a lighthouse", {"seed": None})
    reference = await provider.submit(submission)
    gateway.predictions[reference.external_id] |= {"input": {"prompt": "a lighthouse"}, **changes}
    stranger = await provider.submit(new_submission())
    gateway.predictions[stranger.external_id] |= {"model": "a/stranger", "version": None}

    assert await provider.find(submission, started) == Candidates((reference,))


async def test_cancel_stops_a_running_prediction(gateway, provider):
    reference = await provider.submit(new_submission(delay=3600))

    assert await provider.cancel(reference) is CancelAnswer.CANCELED
    assert isinstance(await provider.poll(reference), Canceled)


async def test_deleted_result_is_an_output_error(gateway, provider):
    reference = await provider.submit(new_submission())
    await gateway.settled()
    gateway.predictions[reference.external_id] |= {"output": None, "data_removed": True}

    outcome = await provider.poll(reference)

    assert isinstance(outcome, Failed)
    assert "an hour" in outcome.error.message


@pytest.mark.parametrize(
    ("output", "found"),
    [
        ("https://x.y/1.png", ["https://x.y/1.png"]),
        (["https://x.y/1.png", "https://x.y/2.png"], ["https://x.y/1.png", "https://x.y/2.png"]),
        (
            {"image": "https://x.y/1.png", "seed": 3, "masks": [{"a": "https://x.y/2.png"}]},
            ["https://x.y/1.png", "https://x.y/2.png"],
        ),
        (["data:image/png;base64,AA==", "a caption"], ["data:image/png;base64,AA=="]),
        (["a ", "text"], ["data:text/plain;charset=utf-8,%61%20%74%65%78%74"]),
        (["https://x.y/1.png", None, "", 7], ["https://x.y/1.png"]),
        (["/files/1.png", "//z.y/2.png"], ["https://x.y/files/1.png", "https://z.y/2.png"]),
        ("https://x.y/a/../ü 1.png", ["https://x.y/%C3%BC%201.png"]),
        ([{"url": "1.png"}], ["https://x.y/v1/predictions/1.png"]),
        ("iVBORw0KGgoAAAANSUhEUg==", ["data:;base64,iVBORw0KGgoAAAANSUhEUg=="]),
        (None, []),
    ],
)
def test_files_are_found_in_outputs_of_any_shape(output, found):
    assert files(output, "https://x.y/v1/predictions/p") == found


@pytest.mark.parametrize("uri", ["data:image/png;base64,AAECAw==", "data:,%00%01%02%03"])
async def test_data_uri_output_is_decoded(gateway, provider, uri):
    gateway.output = uri
    outcome = await ended(provider, await provider.submit(new_submission()))

    assert b"".join([chunk async for chunk in provider.open(outcome.outputs[0])]) == bytes(range(4))


@pytest.mark.parametrize(
    ("logs", "fraction"),
    [("", None), ("100 things", None), (" 25%|##  | 1/4\n 50%|####| 2/4 [00:01]", 0.5), ("  0%|  | 0/4", 0.0)],
)
def test_progress_is_read_from_progress_bars(logs, fraction):
    assert progress(logs) == fraction


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("Prediction failed: Prediction failed: no CUDA: none at all", "Prediction failed: no CUDA: none at all"),
        ("no no: no: no: what", "no no: no: no: what"),
        ("x: x: x: y", "x: y"),
        ("Prediction failed: Prediction failed: ", "Prediction failed: "),
        ("", "it ended as failed"),
        (None, "it ended as failed"),
        ("Prediction failed", "Prediction failed"),
    ],
)
def test_repeated_error_prefix_is_removed(error, message):
    outcome = Prediction(id="p", status="failed", error=error).outcome("https://x.y/p")

    assert isinstance(outcome, Failed)
    assert outcome.error.message == message


def test_message_without_a_wait_gives_none():
    assert wait_in_text("Slow down") is None


async def test_api_token_is_sent_only_to_replicate(gateway, provider):
    async with Gateway() as elsewhere:
        elsewhere._keys["x/0"] = b"bytes"
        gateway.output = f"{elsewhere.url}/files/x/0.png"
        outcome = await ended(provider, await provider.submit(new_submission()))

        assert b"".join([chunk async for chunk in provider.open(outcome.outputs[0])]) == b"bytes"

    ((_, _, names),) = elsewhere.requests
    assert "authorization" not in names


async def test_input_file_is_uploaded(gateway, provider):
    async def chunks():
        yield b"some "
        yield b"bytes"

    url = await provider.upload(InputFile("image/png", 10, 'od"d\r\n.png', chunks))

    assert url.startswith(f"{gateway.url}/uploads/")
    assert gateway.uploaded() == [b"some bytes"]


async def test_refresh_reads_the_current_schema(gateway, provider):
    card = await provider.refresh(PAINTER)

    schema = card.input_schema
    jsonschema_rs.meta.validate(dict(schema))
    assert list(schema["properties"]) == ["image", "scheduler", "seed", "width"]
    assert schema["properties"]["seed"]["type"] == ["integer", "null"]
    assert schema["properties"]["scheduler"]["enum"] == ["DDIM", "K_EULER"]
    assert schema["properties"]["scheduler"]["default"] == "K_EULER"
    assert schema["required"] == ["image"]
    assert card.description == "As of today."
    gateway.trouble = "model_gone"
    with pytest.raises(ModelGoneError):
        await provider.refresh(PAINTER)


def test_shipped_models_are_well_formed():
    cards = Catalogue().models("replicate", "replicate")

    assert len({card.name for card in cards}) == len(cards) > 4
    for card in cards:
        jsonschema_rs.meta.validate(dict(card.input_schema))
        assert jsonschema_rs.Draft202012Validator(dict(card.input_schema)).is_valid(dict(card.example))
        assert card.price is not None


# Jobs end to end


@pytest.fixture
def settings(engines, database):
    return make_settings(engines, database_url=database, allow_private_addresses=True)


class Product:
    """API and worker in this process, and the gateway that calls back."""

    def __init__(self, client, provider, gateway):
        self.client = client
        self.provider = provider
        self.gateway = gateway


@pytest.fixture
async def product(settings, bell, gateway, working, db, provider):
    """The API on a real port, so that the gateway can call back over HTTP."""
    app = create_app(settings, bell, Registry([provider]))
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="on")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await eventually(lambda: asyncio.sleep(0, server.started))
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    await working(provider, callback_url=address)
    await eventually(lambda: signing_keys.keys_of(db, "replicate"))
    async with httpx2.AsyncClient(base_url=address, timeout=30, trust_env=False) as api:
        yield Product(Client(api), provider, gateway)
    server.should_exit = True
    await task


async def test_callback_completes_the_job_with_few_polls(product):
    media = await product.client.generate(model="replicate/cog/painter", input={"delay": 1.5})

    done = await product.client.until(media)

    assert (done["status"], done["files"][0]["media_type"]) == ("COMPLETED", "image/png")
    assert len(product.gateway.predictions) == 1
    assert product.gateway.polls < 8


async def test_callback_identifies_purchases_that_the_list_cannot_tell_apart(product):
    product.gateway.trouble = "accepted_then_dropped"
    both = [await product.client.generate(model="replicate/cog/painter", input={"delay": 1}) for _ in range(2)]

    done = [await product.client.until(media) for media in both]

    assert [media["status"] for media in done] == ["COMPLETED"] * 2
    assert len(product.gateway.predictions) == 2
    ids = [(await attempts_of(product.client, media))[0]["external_id"] for media in both]
    assert sorted(ids) == sorted(product.gateway.predictions)


@pytest.mark.parametrize(("secret", "age"), [("whsec_" + base64.b64encode(b"wrong").decode(), 0), (SECRET, 600)])
async def test_callback_with_wrong_secret_or_old_timestamp_is_refused(product, secret, age):
    product.gateway.calls_back = False
    media = await product.client.generate(model="replicate/cog/painter", input={"delay": 60})
    await eventually(lambda: asyncio.sleep(0, product.gateway.predictions))
    (number,) = product.gateway.predictions

    assert await product.gateway.call_back(number, secret, age=age) == 401
    assert (await product.client.media(media))["status"] in {"IN_QUEUE", "PROCESSING"}


def test_configured_webhook_secret_needs_no_fetched_keys():
    variables = {"api_token": TOKEN, "webhook_secret": SECRET}
    provider = ReplicateMediaGeneratorModel.open_account(ProviderSetup(Account("replicate", variables)))
    with pytest.raises(CallbackRefusedError, match="no signature"):
        provider.read_callback(Callback(new_id(), {}, b"", datetime.now(UTC)), ())


async def test_jobs_complete_with_a_real_cog_server(product, tmp_path):
    with cog_server(tmp_path) as address:
        product.gateway.predictor = cog(address)
        good = await product.client.generate(
            model="replicate/cog/painter", input={"width": 100, "count": 2, "delay": 1}
        )
        done = await product.client.until(good)
        bad = await product.client.generate(model="replicate/cog/painter", input={"fail": True})
        failed = await product.client.until(bad)

    assert [(file["width"], file["height"]) for file in done["files"]] == [(100, 100)] * 2
    assert (failed["status"], failed["error"]["code"]) == ("ERROR", "generation_failed")
    assert "simulated failure" in failed["error"]["message"]
    assert len(product.gateway.predictions) == 2
