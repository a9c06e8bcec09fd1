"""OpenAI images against aimock, and against a server of the tests for what breaks half-way."""

import asyncio
import base64
import tracemalloc
from datetime import timedelta
from decimal import Decimal
from email import message_from_bytes
from email.policy import HTTP
from functools import partial
from io import BytesIO

import msgspec
import pytest
from aiohttp import web
from PIL import Image

from app.core.errors import SettingsError
from app.core.http_client.client import HttpClient
from app.core.ids import new_id
from app.media_generator.accounts import Account, Setup
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
from app.media_generator.media_generator_model import Failed, Output, Reference, Submission, Succeeded
from app.media_generator.openai_media_generator.provider import OpenAIMediaGeneratorModel
from app.storage.raw_answers import StoredRawAnswers
from app.storage.s3 import S3Store
from tests.providers.aimock import Aimock, running
from tests.providers.server import Server, breaking_off, saying
from tests.support import attempts_of, eventually

FLARE = "gpt-image-2.6-flare"
PROMPT = "a lighthouse at dawn"
FORBIDDEN = "something that nobody may ask for"


def picture(kind="webp", size=(64, 48), colour="teal"):
    file = BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def base64_of(content):
    return base64.b64encode(content).decode()


def answer_with(*pictures, **more):
    data = [{"b64_json": base64_of(content)} for content in pictures]
    return msgspec.json.encode({"created": 1, **more, "data": data})


@pytest.fixture(scope="module")
def aimock_url():
    with running() as url:
        yield url


@pytest.fixture
async def http():
    outgoing = HttpClient(allow_private_addresses=False)
    yield outgoing
    await outgoing.close()


@pytest.fixture
async def aimock(aimock_url, http):
    mock = Aimock(aimock_url, http)
    await mock.answers(PROMPT, {"images": [{"b64Json": base64_of(picture())}]})
    refusal = {"error": {"message": "rejected by the safety system", "code": "moderation_blocked"}, "status": 400}
    await mock.answers(FORBIDDEN, refusal)
    return mock


@pytest.fixture
def make(http, vault):
    """Opens an account as the product does."""

    def open_account(name="openai", kind=OpenAIMediaGeneratorModel, **variables):
        account = Account(name, {"api_key": "sk-test", **variables})
        setup = Setup(account, http, Catalogue().models("openai", name), vault)
        return kind.open_account(setup)

    return open_account


@pytest.fixture
async def server():
    async with Server() as running_server:
        yield running_server


@pytest.fixture
def lab(make, server):
    """An account at the server of the tests."""
    return make("lab", base_url=f"{server.url}/v1", models="sdxl", submit_timeout="20")


def asking(prompt=PROMPT, model=FLARE, **given):
    return Submission(new_id(), 1, model, prompt, given)


async def bytes_of(provider, output):
    return b"".join([chunk async for chunk in provider.open(output)])


class TestOpenAI(ProviderContract):
    @pytest.fixture
    async def provider(self, aimock, make):
        names = ",".join(card.name for card in Catalogue().models("openai", "openai"))
        return make(base_url=f"{aimock.url}/v1", models=names)

    def refused(self):
        return asking(FORBIDDEN)


STATUSES = {
    Trouble.BUSY: 429,
    Trouble.INPUT_REFUSED: 400,
    Trouble.UNAUTHORIZED: 401,
    Trouble.NO_CREDIT: 402,
    Trouble.MODEL_GONE: 404,
    Trouble.ACCEPTED_THEN_500: 500,
}


class TestAServerOfOnesOwn(ProviderContract):
    """Refusals and what is lost by aimock; what it cannot do by the server of the tests."""

    @pytest.fixture
    async def provider(self, aimock, make, server):
        self.aimock, self.make, self.server = aimock, make, server
        self.prompt_of_trouble = f"in trouble {new_id()}"
        return make("lab", base_url=f"{aimock.url}/v1", submit_timeout="2")

    def refused(self):
        return asking(FORBIDDEN, "images")

    async def troubled(self, provider, trouble):
        made = {"images": [{"b64Json": base64_of(picture())}]}
        if trouble in STATUSES:
            refusal = {"error": {"message": "told you so"}, "status": STATUSES[trouble]}
            await self.aimock.answers(self.prompt_of_trouble, refusal)
        elif trouble is Trouble.ACCEPTED_THEN_DROPPED:
            await self.aimock.answers(self.prompt_of_trouble, made, chaos={"disconnectRate": 1})
        elif trouble is Trouble.NOT_REACHED:
            async with Server() as gone:
                provider._base_url = f"{gone.url}/v1"
        else:
            self._at_our_server(provider, trouble)
        return asking(self.prompt_of_trouble, "images")

    def _at_our_server(self, provider, trouble):
        provider._base_url = f"{self.server.url}/v1"
        body = {"data": [{"url": f"{self.server.url}/made"}]}
        if trouble is Trouble.FAILED_LATER:
            body = {"error": "out of memory"}
        elif trouble is Trouble.OUTPUT_CUT:
            self.server.answers["/made"] = breaking_off(picture()[:20], promised=500)
        elif trouble is Trouble.OUTPUT_HUGE:
            body = {"data": [{"b64_json": base64_of(bytes(52 * 1024 * 1024))}]}
        silent = trouble is Trouble.ACCEPTED_THEN_SILENCE
        self.server.answers["/v1/"] = self.server.silence if silent else saying(msgspec.json.encode(body))

    async def bought(self):
        here = [one for one in self.server.came if one.path == "/v1/images/generations"]
        came = await self.aimock.arrived("POST", "/v1/images/generations", self.prompt_of_trouble)
        return len(here) + len([one for one in came if one["response"]["status"] in {0, 200, 500}])


@pytest.fixture
def set_up(monkeypatch, aimock):
    """The variables that an operator sets; the API reads them when it starts."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{aimock.url}/v1")
    monkeypatch.setenv("OPENAI_MODELS", FLARE)


@pytest.fixture
async def product(set_up, client, working, make, aimock):
    """The API with a runner that has this provider."""
    await working(make(base_url=f"{aimock.url}/v1", models=FLARE))
    return client


async def test_a_request_ends_with_its_pictures_in_the_bucket(aimock, product):
    prompt = "two boats in a harbour"
    shown = [picture("png", (96, 64)), picture("webp", (64, 64))]
    await aimock.answers(prompt, {"images": [{"b64Json": base64_of(content)} for content in shown]})

    media = await product.generate(model=f"openai/{FLARE}", prompt=prompt, input={"n": 2, "quality": "low"})
    done = await product.until(media)

    assert done["status"] == "COMPLETED", done
    assert [(file["media_type"], file["width"]) for file in done["files"]] == [("image/png", 96), ("image/webp", 64)]
    (arrived,) = await aimock.arrived("POST", "/v1/images/generations", prompt)
    assert arrived["headers"]["authorization"] != ""


class Forgetful(OpenAIMediaGeneratorModel):
    """Knows nothing of an answer that is in the vault, as after a crash or a lost answer of the store."""

    async def submit(self, submission):
        await super().submit(submission)
        raise AnswerLostError("nobody knows")


async def test_an_answer_that_had_come_is_found_by_who_goes_on(aimock, set_up, client, working, make):
    await working(make(kind=Forgetful, base_url=f"{aimock.url}/v1", models=FLARE))
    prompt = "a mill that turns"
    await aimock.answers(prompt, {"images": [{"b64Json": base64_of(picture())}]})

    done = await client.until(await client.generate(model=f"openai/{FLARE}", prompt=prompt))

    assert (done["status"], done["number_of_tries"]) == ("COMPLETED", 1)
    assert len(await aimock.arrived("POST", "/v1/images/generations", prompt)) == 1


class Cut(StoredRawAnswers):
    """Nobody can say what is in it, as while the store is away."""

    away = True

    async def find(self, attempt_id):
        if self.away:
            raise OSError("the store is away")
        return await super().find(attempt_id)


@pytest.fixture
def own_server(monkeypatch, server, http):
    """What an operator sets for a server of his own."""
    variables = {"base_url": f"{server.url}/v1", "models": "sdxl", "submit_timeout": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(f"OPENAI_{name.upper()}", value)
    return partial(Setup, Account("openai", variables), http, ())


@pytest.fixture
async def held(base_settings, server, own_server, client, working, monkeypatch):
    """A media whose answer was lost while the store was away, and the vault."""
    monkeypatch.setattr("app.jobs.execution.late_results.PAUSE", timedelta(seconds=0.1))
    vault = Cut(S3Store(base_settings))
    server.answers["/v1/"] = server.drop
    await working(OpenAIMediaGeneratorModel.open_account(own_server(vault)))
    media = await client.until(await client.generate(model="openai/sdxl", prompt=PROMPT))
    assert (media["status"], media["error"]["code"]) == ("ERROR", "outcome_unknown")
    return media, vault


async def test_an_answer_that_is_found_after_its_media_was_held_is_stored_and_completes_a_retry_for_nothing(
    held, server, client, vault, db
):
    media, cut = held
    (attempt,) = await attempts_of(client, media)
    await db.execute("UPDATE attempts SET look_at = now()")

    # A worker that was cut off in the middle of the call writes it down when it is back.
    async def chunks():
        yield answer_with(picture())

    await cut.keep(attempt["id"], chunks())
    cut.away = False
    late = await eventually(lambda: client.media(media), lambda seen: seen["files"])
    await client.api.post(f"/media/{media['id']}/retry")
    done = await client.until(media, "COMPLETED")

    assert (attempt["status"], late["status"], late["files"][0]["media_type"]) == ("UNKNOWN", "ERROR", "image/webp")
    assert (done["number_of_tries"], len(server.came)) == (1, 1)
    assert [one["status"] for one in await attempts_of(client, done)] == ["SUCCEEDED"]
    assert await vault.find(attempt["id"]) is None


async def test_an_answer_that_never_came_is_looked_for_once_the_store_is_back_and_no_more(held, server, client, db):
    media, cut = held
    cut.away = False
    await db.execute("UPDATE attempts SET look_at = now()")

    await eventually(lambda: db.fetch("SELECT FROM attempts WHERE look_at IS NULL"))

    (attempt,) = await attempts_of(client, media)
    assert (attempt["status"], await client.media(media), len(server.came)) == ("UNKNOWN", media, 1)


async def test_a_refusal_by_moderation_says_so_and_is_asked_for_once(aimock, product):
    media = await product.generate(model=f"openai/{FLARE}", prompt=FORBIDDEN)
    done = await product.until(media)

    assert (done["status"], done["error"]["code"]) == ("ERROR", "content_refused")
    (attempt,) = await attempts_of(product, media)
    assert attempt["sent"] == "NO"


@pytest.mark.parametrize(
    ("status", "error", "kind", "sent"),
    [
        (400, {"code": "moderation_blocked"}, ContentRefusedError, Sent.NO),
        (400, {"code": "content_policy_violation"}, ContentRefusedError, Sent.NO),
        (400, {"code": "unknown_parameter"}, InputRefusedError, Sent.NO),
        (400, {"code": "billing_hard_limit_reached"}, CreditError, Sent.NO),
        (401, {"code": "invalid_api_key"}, UnauthorizedError, Sent.NO),
        (402, {}, CreditError, Sent.NO),
        (403, {}, UnauthorizedError, Sent.NO),
        (404, {"code": "model_not_found"}, ModelGoneError, Sent.NO),
        (409, {}, RefusedError, Sent.NO),
        (413, {}, InputRefusedError, Sent.NO),
        (422, {}, InputRefusedError, Sent.NO),
        (429, {"code": "rate_limit_exceeded"}, BusyError, Sent.NO),
        (429, {"code": "insufficient_quota"}, CreditError, Sent.NO),
        (501, {}, RefusedError, Sent.NO),
        (503, {}, BusyError, Sent.NO),
        (408, {}, AnswerLostError, Sent.UNKNOWN),
        (500, {}, AnswerLostError, Sent.UNKNOWN),
        (500, {"code": "moderation_blocked"}, AnswerLostError, Sent.UNKNOWN),
        (502, {}, AnswerLostError, Sent.UNKNOWN),
        (504, {}, AnswerLostError, Sent.UNKNOWN),
    ],
)
async def test_each_refusal_says_what_it_means_for_the_money(aimock, make, status, error, kind, sent):
    provider = make(base_url=f"{aimock.url}/v1")
    prompt = f"refused {new_id()}"
    await aimock.answers(prompt, {"error": {"message": "told you so", **error}, "status": status})

    with pytest.raises(kind) as refused:
        await provider.submit(asking(prompt, "images"))

    assert type(refused.value) is kind
    assert refused.value.sent is sent
    assert "told you so" in refused.value.message
    assert len(await aimock.arrived("POST", "/v1/images/generations", prompt)) == 1


async def test_a_busy_server_says_for_how_long(aimock, make):
    provider = make(base_url=f"{aimock.url}/v1")
    await aimock.answers("in a hurry", {"error": {"message": "slow down"}, "status": 429, "retryAfter": 7})

    with pytest.raises(BusyError) as busy:
        await provider.submit(asking("in a hurry", "images"))

    assert busy.value.retry_after == timedelta(seconds=7)


async def test_a_connection_dropped_after_it_was_taken_is_unknown_and_asked_for_once(aimock, make):
    provider = make(base_url=f"{aimock.url}/v1")
    response = {"images": [{"b64Json": base64_of(picture())}]}
    await aimock.answers("a dropped call", response, chaos={"disconnectRate": 1})

    with pytest.raises(AnswerLostError) as lost:
        await provider.submit(asking("a dropped call", "images"))

    assert lost.value.sent is Sent.UNKNOWN
    assert len(await aimock.arrived("POST", "/v1/images/generations", "a dropped call")) == 1


async def test_silence_after_it_was_taken_is_unknown(make, server):
    server.answers["/v1/"] = server.silence
    provider = make("lab", base_url=f"{server.url}/v1", submit_timeout="1")

    with pytest.raises(AnswerLostError):
        await provider.submit(asking(model="images"))

    assert len(server.came) == 1


@pytest.mark.parametrize("size", [1000, 12_000_000], ids=["small", "in parts"])
async def test_a_success_that_breaks_off_is_unknown_and_leaves_nothing_behind(lab, server, vault, size):
    body = b'{"data": [{"b64_json": "' + b"A" * size
    server.answers["/v1/"] = breaking_off(body, promised=size * 2)
    submission = asking(model="sdxl")

    with pytest.raises(AnswerLostError):
        await lab.submit(submission)

    with pytest.raises(FileNotFoundError):
        await anext(vault.open(f"answers/{submission.attempt_id}"))


@pytest.mark.parametrize("body", [b"", b'{"data": [{"b64_json": "AAAA', b"<html>"], ids=["empty", "half", "page"])
async def test_a_success_that_is_no_whole_answer_is_unknown(lab, server, body):
    server.answers["/v1/"] = saying(body)

    with pytest.raises(AnswerLostError):
        await lab.submit(asking(model="sdxl"))


async def test_nobody_listening_is_known_to_have_cost_nothing(make):
    async with Server() as gone:
        url = gone.url

    with pytest.raises(NotReachedError) as error:
        await make("lab", base_url=f"{url}/v1").submit(asking(model="images"))

    assert error.value.sent is Sent.NO


class Broken:
    """A store that is out of order."""

    async def keep(self, attempt_id, chunks):
        async for _ in chunks:
            pass
        raise OSError("the store is away")

    async def open(self, name):
        raise OSError("the store is away")
        yield b""

    async def drop(self, name):
        raise OSError("the store is away")


async def test_while_the_store_is_away_nothing_that_was_paid_is_given_up(http, server, lab):
    server.answers["/v1/"] = saying(answer_with(picture()))
    bought = await lab.submit(asking(model="sdxl"))
    account = Account("lab", {"base_url": f"{server.url}/v1"})
    cut_off = OpenAIMediaGeneratorModel.open_account(Setup(account, http, (), Broken()))

    with pytest.raises(AnswerLostError):
        await cut_off.submit(asking(model="images"))
    with pytest.raises(NotReachedError):
        await cut_off.poll(bought)
    with pytest.raises(NotReachedError):
        await bytes_of(cut_off, Output(f"{bought.data['answer']}#0-4"))
    assert isinstance(await lab.poll(bought), Succeeded)


async def test_another_process_goes_on_with_the_stored_reference(make, lab, server):
    content = picture()
    server.answers["/v1/"] = saying(answer_with(content))
    bought = await lab.submit(asking(model="sdxl"))
    stored = msgspec.json.decode(msgspec.json.encode(bought), type=Reference)
    server.answers["/v1/"] = server.drop

    other = make("lab", base_url=f"{server.url}/v1", models="sdxl")
    outcome = await other.poll(stored)

    assert await bytes_of(other, outcome.outputs[0]) == content
    assert len(server.came) == 1


async def test_a_settled_purchase_leaves_nothing_in_the_vault(lab, server):
    server.answers["/v1/"] = saying(answer_with(picture()))
    bought = await lab.submit(asking(model="sdxl"))
    outcome = await lab.poll(bought)

    await lab.settled(bought)
    await lab.settled(bought)

    gone = await lab.poll(bought)
    assert isinstance(gone, Failed)
    assert isinstance(gone.error, OutputError)
    with pytest.raises(OutputError):
        await bytes_of(lab, outcome.outputs[0])


async def test_tokens_are_told_and_priced(make, aimock, server, vault, http):
    usage = {
        "total_tokens": 1600,
        "input_tokens": 600,
        "output_tokens": 1000,
        "input_tokens_details": {"text_tokens": 100, "image_tokens": 500},
    }
    server.answers["/v1/"] = saying(answer_with(picture(), usage=usage))
    provider = make(base_url=f"{server.url}/v1", models=FLARE)

    outcome = await provider.poll(await provider.submit(asking()))

    assert outcome.units["token"] == 1600
    assert outcome.units["output_token"] == 1000
    # 100 words at 5, 500 of pictures at 8 and 1000 out at 30 dollars a million
    assert outcome.cost == Decimal("0.0345")


@pytest.mark.parametrize("usage", [None, [], {"total_tokens": "many"}, {"output_tokens": -1}, {"output_tokens": True}])
async def test_a_usage_that_makes_no_sense_costs_nobody_the_picture(make, server, usage):
    server.answers["/v1/"] = saying(answer_with(picture(), usage=usage))
    provider = make(base_url=f"{server.url}/v1", models=FLARE)

    outcome = await provider.poll(await provider.submit(asking()))

    assert isinstance(outcome, Succeeded)
    assert outcome.cost is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"data": []}', GenerationFailedError),
        (b'{"created": 1}', GenerationFailedError),
        (b'{"data": null}', GenerationFailedError),
        (b'{"data": [{"b64_json": ""}]}', GenerationFailedError),
        (b'{"error": {"message": "no", "code": "content_filter"}}', ContentStoppedError),
        (b'{"error": "out of memory"}', GenerationFailedError),
        (b'{"data": 7}', OutputError),
        (b'{"data": [}', OutputError),
        (b'{"data": [], "long": "' + b"x" * 1_100_000 + b'"}', OutputError),
    ],
)
async def test_an_answer_without_a_picture_was_paid_and_failed(lab, server, body, kind):
    server.answers["/v1/"] = saying(body)

    outcome = await lab.poll(await lab.submit(asking(model="sdxl")))

    assert isinstance(outcome, Failed)
    assert type(outcome.error) is kind
    assert outcome.error.sent is Sent.YES


async def test_a_picture_that_is_no_base64_is_an_invalid_output(lab, server):
    server.answers["/v1/"] = saying(b'{"data": [{"b64_json": "' + b"*" * 400 + b'"}]}')

    outcome = await lab.poll(await lab.submit(asking(model="sdxl")))

    with pytest.raises(OutputError):
        await bytes_of(lab, outcome.outputs[0])


@pytest.mark.parametrize(
    "written",
    [
        lambda text: text,
        lambda text: text.replace("/", "\\/"),
        lambda text: text.replace("+", "\\u002b").replace("/", "\\u002F").replace("=", "\\u003d"),
        lambda text: "\\n".join(text[at : at + 76] for at in range(0, len(text), 76)),
        lambda text: "data:image\\/png;base64," + text,
        lambda text: text.rstrip("="),
    ],
    ids=["plain", "escaped slashes", "escaped everything", "lines", "data URI", "no padding"],
)
@pytest.mark.parametrize("spaced", [False, True])
async def test_base64_is_read_however_it_is_written(lab, server, written, spaced):
    contents = [picture("png", (64, 48), (n, 7 * n, 255 - n)) + bytes(range(256)) * n for n in (1, 2, 300)]
    key = '"b64_json" :\n "' if spaced else '"b64_json":"'
    items = ",".join("{" + key + written(base64_of(content)) + '"}' for content in contents)
    server.answers["/v1/"] = saying(('{"note": "a \\"b64_json\\":\\" in words", "data": [' + items + "]}\n").encode())

    outcome = await lab.poll(await lab.submit(asking(model="sdxl")))

    assert [await bytes_of(lab, output) for output in outcome.outputs] == contents


class FileVault:
    """A vault in a folder: it holds nothing in memory itself, as a store's client may for a while."""

    def __init__(self, folder):
        self.folder = folder

    async def keep(self, attempt_id, chunks):
        with (self.folder / str(attempt_id)).open("wb") as file:
            async for chunk in chunks:
                file.write(chunk)
        return str(attempt_id)

    async def open(self, name):
        with (self.folder / name).open("rb") as file:
            while chunk := file.read(256 * 1024):
                yield chunk

    async def drop(self, name):
        (self.folder / name).unlink(missing_ok=True)


async def test_a_huge_picture_passes_with_flat_memory(http, server, tmp_path):
    megabyte, count = base64.b64encode(bytes(3 * 256 * 1024)), 64

    async def answer(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"data": [{"b64_json": "')
        for _ in range(count):
            await response.write(megabyte)
        await response.write(b'"}]}')
        return response

    server.answers["/v1/"] = answer
    account = Account("lab", {"base_url": f"{server.url}/v1"})
    provider = OpenAIMediaGeneratorModel.open_account(Setup(account, http, (), FileVault(tmp_path)))
    tracemalloc.start()
    try:
        outcome = await provider.poll(await provider.submit(asking(model="images")))
        size = 0
        async for chunk in provider.open(outcome.outputs[0]):
            size += len(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert size == count * 3 * 256 * 1024
    assert peak < 8 * 1024 * 1024, f"{peak / 2**20:.0f} MiB for an answer of {count} MiB"


async def test_a_picture_at_a_url_is_fetched_and_the_key_goes_to_nobody_else(lab, make, server):
    content = picture()
    server.answers["/v1/"] = saying(msgspec.json.encode({"data": [{"url": f"{server.url}/made/1.webp"}]}))
    server.answers["/made/"] = saying(content)

    outcome = await lab.poll(await lab.submit(asking(model="sdxl")))

    assert await bytes_of(lab, outcome.outputs[0]) == content
    assert server.came[-1].headers["authorization"] == "Bearer sk-test"
    async with Server() as elsewhere:
        with pytest.raises(OutputError, match="private or loopback"):
            await bytes_of(lab, Output(f"{elsewhere.url}/made/1.webp"))
        assert elsewhere.came == []


async def test_an_output_that_is_gone_is_an_invalid_output(lab, server):
    server.answers["/v1/"] = saying(msgspec.json.encode({"data": [{"url": f"{server.url}/made/1.webp"}]}))
    outcome = await lab.poll(await lab.submit(asking(model="sdxl")))
    server.answers["/made/"] = saying(b"", status=404)

    with pytest.raises(OutputError):
        await bytes_of(lab, outcome.outputs[0])


async def test_pictures_to_go_by_make_an_edit_of_it(lab, server):
    server.answers["/v1/images/edits"] = saying(answer_with(picture()))
    first, second, mask = picture("png"), picture("jpeg"), picture("png", colour="red")
    uris = [f"data:image/{kind};base64,{base64_of(content)}" for kind, content in (("png", first), ("jpeg", second))]
    given = {"image": uris, "mask": f"data:image/png;base64,{base64_of(mask)}", "n": 2, "size": "512x512"}

    outcome = await lab.poll(await lab.submit(asking("gîte, \r\nby night", "sdxl", **given)))

    assert isinstance(outcome, Succeeded)
    (came,) = server.came
    head = f"Content-Type: {came.headers['content-type']}\r\n\r\n".encode()
    parts = list(message_from_bytes(head + came.body, policy=HTTP).iter_parts())
    texts = {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in parts
        if part.get_filename() is None
    }
    files = [
        (part.get_param("name", header="content-disposition"), part.get_content_type(), part.get_payload(decode=True))
        for part in parts
        if part.get_filename() is not None
    ]
    assert texts["prompt"].decode() == "gîte, \r\nby night"
    assert (texts["n"], texts["size"], texts["model"]) == (b"2", b"512x512", b"sdxl")
    assert files == [
        ("image[]", "image/png", first),
        ("image[]", "image/jpeg", second),
        ("mask", "image/png", mask),
    ]


async def test_an_edit_is_understood_by_aimock(aimock, make):
    provider = make(base_url=f"{aimock.url}/v1", models=FLARE)
    uri = f"data:image/png;base64,{base64_of(picture('png'))}"

    outcome = await provider.poll(await provider.submit(asking(image=[uri])))

    assert isinstance(outcome, Succeeded)
    (arrived,) = await aimock.arrived("POST", "/v1/images/edits", PROMPT)
    assert arrived["body"]["model"] == FLARE


@pytest.mark.parametrize("uri", ["https://example.com/a.png", "data:image/png;base64,*", "data:text", ""])
async def test_a_picture_that_cannot_be_read_is_refused_before_anything_is_sent(lab, server, uri):
    with pytest.raises(InputRefusedError):
        await lab.submit(asking(model="sdxl", image=[uri]))

    assert server.came == []


async def test_what_goes_along_is_what_each_server_takes(lab, make, server):
    server.answers["/v1/"] = saying(answer_with(picture()))
    unnamed = make("lab", base_url=f"{server.url}/v1")

    await lab.submit(asking(model="sdxl", seed=7))
    await unnamed.submit(asking(model="images"))

    named, plain = (msgspec.json.decode(came.body) for came in server.came)
    assert named == {"prompt": PROMPT, "model": "sdxl", "seed": 7, "response_format": "b64_json"}
    assert plain == {"prompt": PROMPT, "response_format": "b64_json"}


def test_each_account_offers_what_its_server_has(make):
    openai = {card.name: card for card in make(models="gpt-image-3").models()}
    second = make("openai-eu").models()
    gateway = make("lab", base_url="http://gateway/v1", models=f" {FLARE} , flux").models()

    assert {FLARE, "gpt-image-1", "gpt-image-3"} <= openai.keys()
    assert "response_format" not in str(openai["gpt-image-3"].options)
    assert [card.name for card in gateway] == [FLARE, "flux"]
    assert "background" in gateway[0].input_schema["properties"]
    assert not [card.name for card in (*second, *gateway) if card.aliases]


def test_openai_itself_needs_a_key_and_others_need_none():
    with pytest.raises(SettingsError, match="OPENAI_API_KEY"):
        OpenAIMediaGeneratorModel.open_account(Setup(Account("openai")))

    lab = OpenAIMediaGeneratorModel.open_account(Setup(Account("lab", {"base_url": "http://127.0.0.1:1/v1"})))

    assert [card.name for card in lab.models()] == ["images"]


async def test_many_at_once_keep_apart(lab, server):
    async def by_prompt(request):
        body = msgspec.json.decode(await request.read())
        return web.Response(body=answer_with(picture("png", (64, int(body["prompt"])))))

    server.answers["/v1/"] = by_prompt
    bought = await asyncio.gather(*(lab.submit(asking(str(lines), "sdxl")) for lines in range(20, 40)))

    for lines, reference in zip(range(20, 40), bought, strict=True):
        outcome = await lab.poll(reference)
        content = await bytes_of(lab, outcome.outputs[0])
        assert Image.open(BytesIO(content)).height == lines
