"""The queue of fal against aimock, and against a server of the tests with the published shapes for what it lacks."""

import asyncio
import hashlib
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from aiohttp import web
from nacl.encoding import URLSafeBase64Encoder
from nacl.signing import SigningKey
from PIL import Image

from app.core.errors import SettingsError
from app.core.http_client.client import HttpClient
from app.core.ids import new_id
from app.jobs.callbacks import signing_keys
from app.media_generator.accounts import Account, Setup
from app.media_generator.callbacks import Callback, CallbackRefusedError
from app.media_generator.catalogue import Catalogue
from app.media_generator.contract.failure_contract import Trouble
from app.media_generator.contract.provider_contract import ProviderContract
from app.media_generator.errors import (
    AnswerLostError,
    BusyError,
    ContentRefusedError,
    ContentStoppedError,
    CreditError,
    GenerationFailedError,
    InputRefusedError,
    ModelGoneError,
    NotReachedError,
    OutputError,
    RefusedError,
    Sent,
    UnauthorizedError,
)
from app.media_generator.fal_media_generator.provider import FalMediaGeneratorModel
from app.media_generator.fal_media_generator.results import files, progress
from app.media_generator.media_generator_model import (
    CancelAnswer,
    Canceled,
    Failed,
    InputFile,
    Output,
    Reference,
    Running,
    Submission,
    Succeeded,
)
from tests.providers.aimock import Aimock, running
from tests.providers.server import Server, breaking_off, saying
from tests.support import attempts_of, eventually

SCHNELL = "fal-ai/flux/schnell"
PROMPT = "a lighthouse at dawn"
VIDEO = bytes(3) + b"\x18ftypmp42" + bytes(4) + b"mp42isom" + b"\x00\x00\x00\x08mdat"
SOUND = b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00" + bytes(12) + b"data\x00\x00\x00\x00"


def picture(size=(64, 48)):
    file = BytesIO()
    Image.new("RGB", size, "teal").save(file, "png")
    return file.getvalue()


class AtAimock:
    """aimock takes what is meant for several hosts of fal at one address, and wants to be told for which one it is."""

    def __init__(self, http):
        self._http = http

    async def send(self, request):
        return await self._http.send(self._told(request))

    @asynccontextmanager
    async def stream(self, request):
        async with self._http.stream(self._told(request)) as answer:
            yield answer

    def _told(self, request):
        return replace(request, headers={**request.headers, "x-fal-target-host": "queue.fal.run"})


@pytest.fixture(scope="module")
def aimock_url():
    with running() as url:
        yield url


@pytest.fixture
async def http():
    outgoing = HttpClient(allow_private_addresses=True)
    yield outgoing
    await outgoing.close()


@pytest.fixture
async def server():
    async with Server() as running_server:
        yield running_server


@pytest.fixture
async def cdn():
    """Where results lie."""
    async with Server() as running_server:
        running_server.answers["/files/picture.png"] = saying(picture())
        running_server.answers["/files/video.mp4"] = saying(VIDEO)
        running_server.answers["/files/sound.wav"] = saying(SOUND)
        yield running_server


@pytest.fixture
async def aimock(aimock_url, http, cdn):
    mock = Aimock(aimock_url, http)
    pictures = {"images": [{"url": f"{cdn.url}/files/picture.png", "content_type": "image/png"}], "seed": 7}
    video, sound = {"video": {"url": f"{cdn.url}/files/video.mp4"}}, {"audio": {"url": f"{cdn.url}/files/sound.wav"}}
    # What is told first counts, and files lie elsewhere in each test.
    await mock.forget()
    for card in Catalogue().models("fal", "fal"):
        made = {"image": pictures, "video": video, "audio": sound}[card.output_types[0].partition("/")[0]]
        await mock.answers(PROMPT, {"json": made, "billableUnits": 0.79}, endpoint="fal", model=card.name)
    return mock


@pytest.fixture
def make(http):
    """Opens an account as the product does."""

    def open_account(base_url, client=None, **variables):
        account = Account("fal", {"key": "id:secret", "base_url": base_url, **variables})
        return FalMediaGeneratorModel.open_account(Setup(account, client or http, Catalogue().models("fal", "fal")))

    return open_account


@pytest.fixture
def at_aimock(make, http, aimock):
    return make(f"{aimock.url}/fal", AtAimock(http))


@pytest.fixture
def provider(make, server):
    """At the server of the tests."""
    return make(server.url, timeout="20")


def asking(prompt=PROMPT, model=SCHNELL, **more):
    return Submission(new_id(), 1, model, prompt, more.pop("given", {}), **more)


def bought(model=SCHNELL, name="req-1"):
    return Reference(name, {"model": model})


def says(**body):
    return saying(msgspec.json.encode(body))


def finished(server, body, *, status=200, name="req-1", state=None, **headers):
    """A request that is over, with the result as the model gave it."""
    server.answers[f"/fal-ai/flux/requests/{name}"] = saying(msgspec.json.encode(body), status=status, **headers)
    server.answers[f"/fal-ai/flux/requests/{name}/status"] = says(status="COMPLETED", **(state or {}))


async def bytes_of(provider, output):
    return b"".join([chunk async for chunk in provider.open(output)])


class TestFal(ProviderContract):
    @pytest.fixture
    async def provider(self, at_aimock):
        return at_aimock

    def refused(self):
        return asking("nobody has told aimock of this")


STATUSES = {
    Trouble.BUSY: 503,
    Trouble.INPUT_REFUSED: 422,
    Trouble.UNAUTHORIZED: 401,
    Trouble.NO_CREDIT: 402,
    Trouble.MODEL_GONE: 404,
    Trouble.ACCEPTED_THEN_500: 500,
}


class OneModel(FalMediaGeneratorModel):
    """So that the rules about each model are not tested twice."""

    def models(self):
        return tuple(card for card in super().models() if card.name == SCHNELL)


class TestFalInTrouble(ProviderContract):
    """The rules at the server of the tests, which can be in every kind of trouble."""

    @pytest.fixture
    async def provider(self, http, server, cdn):
        self.server, self.cdn, self.taken = server, cdn, 0
        server.answers[f"/{SCHNELL}"] = self._take
        server.answers["/fal-ai/flux/requests/"] = self._tell
        self.result = {"images": [{"url": f"{cdn.url}/files/picture.png"}]}
        account = Account("fal", {"key": "k", "base_url": server.url, "timeout": "2"})
        return OneModel.open_account(Setup(account, http, Catalogue().models("fal", "fal")))

    async def _take(self, request):
        self.taken += 1
        return web.json_response({"request_id": f"req-{self.taken}"})

    async def _tell(self, request):
        if request.path.endswith("/status"):
            return web.json_response({"status": "COMPLETED"})
        if request.path.endswith("/cancel"):
            return web.json_response({"status": "ALREADY_COMPLETED"}, status=400)
        return web.json_response(self.result, status=422 if "detail" in self.result else 200)

    async def troubled(self, provider, trouble):
        lost = {Trouble.ACCEPTED_THEN_SILENCE: self.server.silence, Trouble.ACCEPTED_THEN_DROPPED: self.server.drop}
        if trouble in STATUSES:
            self.server.answers[f"/{SCHNELL}"] = saying(b'{"detail": "told you so"}', status=STATUSES[trouble])
        elif trouble in lost:
            self.server.answers[f"/{SCHNELL}"] = lost[trouble]
        elif trouble is Trouble.NOT_REACHED:
            async with Server() as gone:
                provider._base_url = gone.url
        elif trouble is Trouble.FAILED_LATER:
            self.result = {"detail": [{"msg": "flagged", "type": "content_policy_violation"}]}
        else:
            self.cdn.answers["/files/"] = {
                Trouble.OUTPUT_GONE: saying(b"", status=404),
                Trouble.OUTPUT_CUT: breaking_off(picture()[:20], promised=500),
                Trouble.OUTPUT_HUGE: huge,
            }[trouble]
            self.result = {"images": [{"url": f"{self.cdn.url}/files/x"}]}
        return asking()


async def huge(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(64):
        await response.write(bytes(1024 * 1024))
    return response


@pytest.fixture
async def product(monkeypatch, aimock, at_aimock, request):
    """The API with a runner that has this provider; the API reads the variables when it starts."""
    monkeypatch.setenv("FAL_KEY", "id:secret")
    monkeypatch.setenv("FAL_BASE_URL", f"{aimock.url}/fal")
    return aimock


async def test_a_request_ends_with_the_file_in_the_bucket(product, client, working, at_aimock):
    await working(at_aimock)

    media = await client.generate(model=f"fal/{SCHNELL}", prompt=PROMPT, input={"image_size": "square"})
    done = await client.until(media)

    assert done["status"] == "COMPLETED", done
    assert [(file["media_type"], file["width"]) for file in done["files"]] == [("image/png", 64)]
    (attempt,) = await attempts_of(client, media)
    asked = await product.arrived("POST", f"/fal/{SCHNELL}")
    assert len([one for one in asked if one["headers"].get("x-fal-no-retry") == "1"]) == len(asked)
    assert attempt["external_id"]


async def test_units_are_told_in_the_words_of_the_catalogue(at_aimock):
    reference = await at_aimock.submit(asking())

    async def look():
        return await at_aimock.poll(reference)

    outcome = await eventually(look, lambda seen: isinstance(seen, Succeeded))

    assert outcome.units == {"megapixel": 0.79}
    assert outcome.log == "Job enqueued.\nJob started processing.\nJob completed."


async def test_a_request_that_waits_can_be_canceled_at_aimock(at_aimock):
    reference = await at_aimock.submit(asking())

    assert await at_aimock.cancel(reference) is CancelAnswer.CANCELED
    assert isinstance(await at_aimock.poll(reference), Canceled)


async def test_what_is_sent_says_all_that_fal_must_know(provider, server):
    server.answers["/fal-ai/"] = says(request_id="req-1")
    submission = asking(
        given={"num_images": 2}, callback_url="https://api.test/cb/fal/1", time_left=timedelta(seconds=90.7)
    )

    reference = await provider.submit(submission)

    (came,) = server.came
    where = urlsplit(came.path)
    assert (came.method, where.path) == ("POST", f"/{SCHNELL}")
    (webhook,) = parse_qs(where.query)["fal_webhook"]
    assert parse_qs(urlsplit(webhook).query) == {"model": [SCHNELL]}
    assert webhook.startswith("https://api.test/cb/fal/1?")
    assert msgspec.json.decode(came.body) == {"prompt": PROMPT, "num_images": 2}
    assert came.headers["authorization"] == "Key id:secret"
    assert (came.headers["x-fal-no-retry"], came.headers["x-fal-request-timeout"]) == ("1", "90")
    assert reference == Reference("req-1", {"model": SCHNELL})


async def test_what_a_gateway_says_is_told_without_its_wrapping(provider, server):
    server.answers["/fal-ai/"] = saying(b'{"error": {"message": "Not found", "type": "not_found"}}', status=404)

    with pytest.raises(ModelGoneError, match=r"^fal answered 404: Not found$"):
        await provider.submit(asking())


@pytest.mark.parametrize(
    ("status", "detail", "kind", "sent"),
    [
        (400, "bad", InputRefusedError, Sent.NO),
        (401, "no key", UnauthorizedError, Sent.NO),
        (402, "pay", CreditError, Sent.NO),
        (403, "User is locked. Reason: Exhausted balance.", CreditError, Sent.NO),
        (403, "not yours", UnauthorizedError, Sent.NO),
        (404, "no such app", ModelGoneError, Sent.NO),
        (409, "odd", RefusedError, Sent.NO),
        (413, "too long", InputRefusedError, Sent.NO),
        (422, [{"loc": ["body", "seed"], "msg": "not a number", "type": "int_type"}], InputRefusedError, Sent.NO),
        (422, [{"msg": "flagged", "type": "content_policy_violation"}], ContentRefusedError, Sent.NO),
        (429, "slow down", BusyError, Sent.NO),
        (503, "later", BusyError, Sent.NO),
        (408, "late", AnswerLostError, Sent.UNKNOWN),
        (500, "oops", AnswerLostError, Sent.UNKNOWN),
        (502, "", AnswerLostError, Sent.UNKNOWN),
        (504, "", AnswerLostError, Sent.UNKNOWN),
    ],
)
async def test_each_refusal_says_what_it_means_for_the_money(provider, server, status, detail, kind, sent):
    body = msgspec.json.encode({"detail": detail})
    server.answers["/fal-ai/"] = saying(body, status=status, Retry_After="9")

    with pytest.raises(kind) as refused:
        await provider.submit(asking())

    assert type(refused.value) is kind
    assert refused.value.sent is sent
    assert len(server.came) == 1
    if kind is BusyError:
        assert refused.value.retry_after == timedelta(seconds=9)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"queue_position": 1}'])
async def test_a_success_that_does_not_name_the_request_is_unknown(provider, server, body):
    server.answers["/fal-ai/"] = saying(body)

    with pytest.raises(AnswerLostError):
        await provider.submit(asking())


@pytest.mark.parametrize("fault", ["drop", "silence", "cut"])
async def test_an_answer_that_is_lost_is_unknown_and_asked_for_once(make, server, fault):
    cut = breaking_off(b'{"request_id": "req', promised=100)
    server.answers["/fal-ai/"] = cut if fault == "cut" else getattr(server, fault)
    provider = make(server.url, timeout="1")

    with pytest.raises(AnswerLostError) as lost:
        await provider.submit(asking())

    assert lost.value.sent is Sent.UNKNOWN
    assert len(server.came) == 1


async def test_nobody_listening_is_known_to_have_cost_nothing(make):
    async with Server() as gone:
        url = gone.url

    with pytest.raises(NotReachedError):
        await make(url).submit(asking())


async def test_what_waits_and_what_runs_says_how_far_it_is(provider, server):
    server.answers["/fal-ai/flux/requests/req-1/status"] = says(status="IN_QUEUE", queue_position=4)
    waits = await provider.poll(bought())
    bars = [{"message": "loading"}, {"message": " 25%|##   | 7/28 [00:01<00:03]\r 50%|#####     | 14/28"}]
    server.answers["/fal-ai/flux/requests/req-1/status"] = saying(
        msgspec.json.encode({"status": "IN_PROGRESS", "logs": bars}), status=202
    )
    runs = await provider.poll(bought())

    assert (waits, waits.wait) == (Running(None, timedelta(seconds=3)), timedelta(seconds=3))
    assert (runs.progress, runs.wait) == (0.5, None)
    assert runs.log.startswith("loading\n")
    assert server.came[0].path == "/fal-ai/flux/requests/req-1/status?logs=1"


@pytest.mark.parametrize("fault", ["drop", "silence", "500", "503", "page"])
async def test_a_status_that_cannot_be_had_is_asked_for_again(make, server, fault):
    answers = {"500": saying(b"", status=500), "503": saying(b"", status=503), "page": saying(b"<html>")}
    server.answers["/fal-ai/"] = answers.get(fault) or getattr(server, fault)

    with pytest.raises((NotReachedError, BusyError)):
        await make(server.url, timeout="1").poll(bought())


@pytest.mark.parametrize(
    "page", [b"<html>", b"{", b'"caf\xe9"', b"[" * 100_000], ids=["page", "{", "latin-1", "nested"]
)
async def test_a_result_that_cannot_be_read_is_asked_for_again(provider, server, page):
    server.answers["/fal-ai/"] = saying(page)
    server.answers["/fal-ai/flux/requests/req-1/status"] = says(status="COMPLETED")

    with pytest.raises(NotReachedError):
        await provider.poll(bought())


async def test_a_refusal_in_other_letters_is_a_refusal(provider, server):
    server.answers["/fal-ai/"] = saying(b'{"detail": "caf\xe9"}', status=401)

    with pytest.raises(UnauthorizedError):
        await provider.submit(asking())


@pytest.mark.parametrize(
    ("status", "detail", "kind"),
    [
        (422, [{"loc": ["body", "prompt"], "msg": "flagged", "type": "content_policy_violation"}], ContentStoppedError),
        (422, [{"loc": ["body", "seed"], "msg": "too large", "type": "less_than"}], GenerationFailedError),
        (422, "odd", GenerationFailedError),
        (400, "odd", GenerationFailedError),
        (500, [{"msg": "out of memory", "type": "internal_server_error"}], GenerationFailedError),
        (404, "gone", OutputError),
    ],
)
async def test_a_failure_at_the_result_was_taken(provider, server, status, detail, kind):
    finished(server, {"detail": detail}, status=status)

    outcome = await provider.poll(bought())

    assert isinstance(outcome, Failed)
    assert type(outcome.error) is kind
    assert outcome.error.sent is Sent.YES


async def test_a_failure_that_the_queue_tells_is_final_and_one_that_nobody_tells_is_not(provider, server):
    finished(server, {}, status=504, state={"error": "timed out", "error_type": "request_timeout"})
    told = await provider.poll(bought())
    finished(server, {}, status=504)

    assert isinstance(told, Failed)
    assert "timed out" in told.error.message
    with pytest.raises(NotReachedError):
        await provider.poll(bought())


async def test_a_refusal_of_its_content_after_it_was_taken_says_so(product, client, working, make, server):
    server.answers["/fal-ai/flux/schnell"] = says(request_id="req-1")
    flagged = [{"loc": ["body", "prompt"], "msg": "flagged", "type": "content_policy_violation"}]
    finished(server, {"detail": flagged}, status=422)
    await working(make(server.url))

    media = await client.generate(model=f"fal/{SCHNELL}", prompt="something")
    done = await client.until(media)

    assert (done["status"], done["error"]["code"]) == ("ERROR", "content_refused")
    (attempt,) = await attempts_of(client, media)
    assert attempt["sent"] == "YES"


@pytest.mark.parametrize("body", [b"{}", b'{"seed": 1}', b'"text"'])
async def test_a_result_without_a_file_is_a_failure(provider, server, body):
    finished(server, {})
    server.answers["/fal-ai/flux/requests/req-1"] = saying(body)

    outcome = await provider.poll(bought())

    assert isinstance(outcome, Failed)
    assert outcome.error.sent is Sent.YES


async def test_what_was_canceled_by_the_queue_is_canceled(provider, server):
    finished(server, {"detail": "canceled"}, status=499, state={"error": "gone", "error_type": "client_cancelled"})

    assert isinstance(await provider.poll(bought()), Canceled)


@pytest.mark.parametrize(
    ("status", "told", "answer"),
    [
        (202, "CANCELLATION_REQUESTED", CancelAnswer.REQUESTED),
        (400, "ALREADY_COMPLETED", CancelAnswer.TOO_LATE),
        (404, "NOT_FOUND", CancelAnswer.TOO_LATE),
    ],
)
async def test_each_answer_to_a_cancel_is_understood(provider, server, status, told, answer):
    server.answers["/fal-ai/"] = saying(msgspec.json.encode({"status": told}), status=status)

    assert await provider.cancel(bought()) is answer
    assert (server.came[0].method, server.came[0].path) == ("PUT", "/fal-ai/flux/requests/req-1/cancel")


async def test_a_cancel_that_nobody_answers_is_asked_for_again(provider, server):
    server.answers["/fal-ai/"] = saying(b"", status=503)

    with pytest.raises(BusyError):
        await provider.cancel(bought())


async def test_another_process_goes_on_with_the_stored_reference(make, server, cdn):
    server.answers["/fal-ai/flux/schnell"] = says(request_id="req-1")
    reference = await make(server.url).submit(asking())
    stored = msgspec.json.decode(msgspec.json.encode(reference), type=Reference)
    finished(server, {"images": [{"url": f"{cdn.url}/files/picture.png"}]}, x_fal_billable_units="1.5")

    other = make(server.url)
    outcome = await other.poll(stored)

    assert outcome.units == {"megapixel": 1.5}
    assert await bytes_of(other, outcome.outputs[0]) == picture()
    assert "authorization" not in cdn.came[0].headers


@pytest.mark.parametrize("told", ["", "many", "nan", "-1", "inf"])
async def test_units_that_make_no_sense_cost_nobody_the_file(provider, server, cdn, told):
    finished(server, {"images": [{"url": f"{cdn.url}/files/picture.png"}]}, x_fal_billable_units=told)

    outcome = await provider.poll(bought())

    assert isinstance(outcome, Succeeded)
    assert outcome.units == {}


async def test_an_output_that_is_gone_cut_off_or_private_is_told_apart(make, provider, cdn):
    cdn.answers["/files/cut.png"] = breaking_off(picture()[:20], promised=500)
    careful = HttpClient(allow_private_addresses=False)
    guarded = make("https://queue.example", careful)

    with pytest.raises(OutputError):
        await bytes_of(provider, Output(f"{cdn.url}/files/gone.png"))
    with pytest.raises(NotReachedError):
        await bytes_of(provider, Output(f"{cdn.url}/files/cut.png"))
    with pytest.raises(OutputError, match="private or loopback"):
        await bytes_of(guarded, Output(f"{cdn.url}/files/picture.png"))
    await careful.close()


@pytest.mark.parametrize(
    ("result", "urls"),
    [
        ({"images": [{"url": "https://a/1"}, {"url": "https://a/2"}]}, ["https://a/1", "https://a/2"]),
        ({"image": {"url": "https://a/1"}, "mask": {"url": "https://a/1"}}, ["https://a/1"]),
        ({"video": {"url": "https://a/v"}, "seed": 1, "prompt": "see https://b/x"}, ["https://a/v"]),
        ({"data": {"layers": [[{"url": "https://a/1"}], [{"url": "https://a/2"}]]}}, ["https://a/1", "https://a/2"]),
        ({"audio_url": "https://a/s", "prompt": "https://b/x and more"}, ["https://a/s"]),
        ("https://a/1", ["https://a/1"]),
        ({"image": {"url": "data:image/png;base64,AAAA"}}, []),
        ({"image": {"url": None}}, []),
    ],
)
def test_files_are_found_in_any_shape(result, urls):
    assert files(result) == urls


def test_progress_is_the_last_bar_in_a_log():
    assert progress(["10%|#", "nothing", " 30%|##  \r 40%|###"]) == 0.4
    assert progress(["100% cotton", "120%|######"]) == 1.0
    assert progress([]) is None


@pytest.mark.parametrize(
    ("model", "app"),
    [
        ("fal-ai/flux-pro/v1.1", "fal-ai/flux-pro"),
        ("google/nano-banana-2.1", "google/nano-banana-2.1"),
        ("workflows/me/mine/deep", "workflows/me/mine"),
    ],
)
async def test_requests_are_kept_under_the_app_without_its_path(provider, server, model, app):
    server.answers["/"] = says(status="IN_QUEUE")

    await provider.poll(bought(model))

    assert server.came[0].path.startswith(f"/{app}/requests/req-1/status")


KEY = SigningKey.generate()


def jwk(key):
    return {"kty": "OKP", "crv": "Ed25519", "x": key.verify_key.encode(URLSafeBase64Encoder).decode().rstrip("=")}


def signed(body, *, key=KEY, at=None, **changes):
    """A callback as fal sends it."""
    told = str(int((at or datetime.now(UTC)).timestamp()))
    message = "\n".join(("req-1", "user-1", told, hashlib.sha256(body).hexdigest())).encode()
    headers = {
        "x-fal-webhook-request-id": "req-1",
        "x-fal-webhook-user-id": "user-1",
        "x-fal-webhook-timestamp": told,
        "x-fal-webhook-signature": key.sign(message).signature.hex(),
    }
    given = {name: value for name, value in {**headers, **changes.pop("headers", {})}.items() if value is not None}
    sent = changes.pop("sent", body)
    return Callback(new_id(), given, sent, datetime.now(UTC), changes.pop("query", {"model": SCHNELL}))


BODY = b'{"request_id": "req-1", "gateway_request_id": "req-2", "status": "OK", "payload": {"images": []}}'


async def test_a_signed_callback_names_its_purchase(provider, server):
    keys_url = Server(**{"/keys": saying(msgspec.json.encode({"keys": [jwk(SigningKey.generate()), jwk(KEY)]}))})
    async with keys_url as told:
        asking_keys = FalMediaGeneratorModel.open_account(
            Setup(Account("fal", {"key": "k", "jwks_url": f"{told.url}/keys"}), provider._http)
        )
        keys = await asking_keys.callback_keys()

    assert provider.read_callback(signed(BODY), keys) == Reference("req-1", {"model": SCHNELL})
    assert server.came == []


@pytest.mark.usefixtures("product")
async def test_a_callback_binds_a_purchase_whose_answer_was_lost(client, working, make, server, db):
    server.answers[f"/{SCHNELL}"] = server.drop
    server.answers["/keys"] = saying(msgspec.json.encode({"keys": [jwk(KEY)]}))
    server.answers["/picture.png"] = saying(picture())
    finished(server, {"images": [{"url": f"{server.url}/picture.png"}]})
    provider = make(server.url, jwks_url=f"{server.url}/keys")
    await working(provider, callback_url="https://fleek.example", reconcile_seconds=300)
    await eventually(lambda: signing_keys.keys_of(db, "fal"))
    media = await client.generate(model=f"fal/{SCHNELL}", prompt=PROMPT)

    async def bought():
        return [urlsplit(came.path) for came in server.came if came.path.startswith(f"/{SCHNELL}")]

    (order,) = await eventually(bought)
    told = urlsplit(parse_qs(order.query)["fal_webhook"][0])
    unsigned = await client.api.post(f"{told.path}?{told.query}", content=BODY)
    answer = await client.api.post(f"{told.path}?{told.query}", content=BODY, headers=signed(BODY).headers)
    done = await client.until(media)

    assert (unsigned.status_code, answer.status_code) == (401, 204)
    assert (done["status"], done["number_of_tries"]) == ("COMPLETED", 1)
    assert len(await bought()) == 1


@pytest.mark.parametrize("query", [{}, {"model": "fal-ai/unheard-of"}])
def test_a_callback_that_does_not_tell_its_model_rings_and_binds_nothing(provider, query):
    assert provider.read_callback(signed(BODY, query=query), [jwk(KEY)["x"]]) is None


@pytest.mark.parametrize(
    "callback",
    [
        signed(BODY, key=SigningKey.generate()),
        signed(BODY, sent=BODY + b" "),
        signed(BODY, at=datetime.now(UTC) - timedelta(minutes=6)),
        signed(BODY, at=datetime.now(UTC) + timedelta(minutes=6)),
        signed(BODY, headers={"x-fal-webhook-user-id": "user-2"}),
        signed(BODY, headers={"x-fal-webhook-request-id": None}),
        signed(BODY, headers={"x-fal-webhook-signature": "zz"}),
        signed(BODY, headers={"x-fal-webhook-signature": "00" * 64}),
        signed(BODY, headers={"x-fal-webhook-timestamp": "soon"}),
        signed(b"[", sent=b"["),
    ],
    ids=["stranger", "changed", "old", "early", "other user", "no id", "no hex", "zeros", "no time", "no body"],
)
def test_a_callback_that_is_not_of_fal_or_not_fresh_is_refused(provider, callback):
    with pytest.raises(CallbackRefusedError):
        provider.read_callback(callback, [jwk(KEY)["x"], "no key", "AAAA"])


def test_without_keys_nothing_is_believed(provider):
    with pytest.raises(CallbackRefusedError, match="no keys"):
        provider.read_callback(signed(BODY), [])


@pytest.mark.parametrize("body", [b"", b"{}", b'{"keys": []}', b'{"keys": [{"kty": "RSA", "n": "AAAA"}]}'])
async def test_keys_that_cannot_be_read_replace_none(http, server, body):
    server.answers["/keys"] = saying(body)
    account = Account("fal", {"key": "k", "jwks_url": f"{server.url}/keys"})

    with pytest.raises(NotReachedError):
        await FalMediaGeneratorModel.open_account(Setup(account, http)).callback_keys()


async def test_many_at_once_keep_apart(provider, server):
    async def answer(request):
        body = msgspec.json.decode(await request.read())
        return web.json_response({"request_id": f"req-{body['prompt']}"})

    server.answers["/fal-ai/"] = answer

    references = await asyncio.gather(*(provider.submit(asking(str(number))) for number in range(20)))

    assert [reference.external_id for reference in references] == [f"req-{number}" for number in range(20)]


def test_an_account_without_a_key_is_told_which_variable_is_missing():
    with pytest.raises(SettingsError, match="FAL_KEY"):
        FalMediaGeneratorModel.open_account(Setup(Account("fal")))


async def test_a_file_too_large_for_a_request_goes_to_the_storage(make, server):
    place = {"upload_url": f"{server.url}/put/1?signed=yes", "file_url": "https://v3.fal.media/files/1.png"}
    server.answers |= {"/storage/upload/initiate": saying(json.dumps(place).encode()), "/put": saying(b"")}
    provider = make(server.url, storage_url=server.url)

    async def chunks():
        yield b"some "
        yield b"bytes"

    url = await provider.upload(InputFile("image/png", 10, "a.png", chunks))

    asked, put = server.came
    assert url == place["file_url"]
    assert json.loads(asked.body) == {"content_type": "image/png", "file_name": "a.png"}
    assert (asked.path, asked.headers["authorization"]) == (
        "/storage/upload/initiate?storage_type=fal-cdn-v3",
        "Key id:secret",
    )
    assert (put.method, put.body, put.headers["content-type"]) == ("PUT", b"some bytes", "image/png")
    assert "authorization" not in put.headers, "the place is not told the key"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (saying(b'{"detail": "no"}', status=500), saying(b"")),
        (saying(b"{}"), saying(b"")),
        (saying(b"no json"), saying(b"")),
        (saying(b'{"upload_url": "file:///etc/passwd", "file_url": "x"}'), saying(b"")),
        (None, saying(b"", status=403)),
    ],
)
async def test_a_file_that_the_storage_does_not_take_costs_nothing(make, server, first, second):
    place = json.dumps({"upload_url": f"{server.url}/put/1", "file_url": "https://v3.fal.media/1"}).encode()
    server.answers |= {"/storage/upload/initiate": first or saying(place), "/put": second}

    async def chunks():
        yield b"bytes"

    with pytest.raises(NotReachedError):
        await make(server.url, storage_url=server.url).upload(InputFile("image/png", 5, "a.png", chunks))
