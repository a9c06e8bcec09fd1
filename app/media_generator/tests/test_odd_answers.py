"""Answers to a finished purchase as providers have written them: in each of them the picture was paid for, and is kept.

Through `submit`, `poll` and `open` of every adapter, from a real HTTP server.
"""

import base64
import json
from datetime import UTC, datetime

import pytest

from app.core.database.migrations import ROOT
from app.core.ids import new_id
from app.media_generator import adapter_calls
from app.media_generator.accounts import Account, ProviderSetup
from app.media_generator.callbacks import Callback
from app.media_generator.catalogue import Catalogue
from app.media_generator.cog_media_generator.provider import CogMediaGeneratorModel
from app.media_generator.comfyui_media_generator.provider import ComfyUIMediaGeneratorModel
from app.media_generator.errors import ProviderError, Sent, UnreadableAnswerError
from app.media_generator.fal_media_generator.provider import FalMediaGeneratorModel
from app.media_generator.media_generator_model import Failed, Output, Reference, Running, Submission, Succeeded
from app.media_generator.openai_media_generator.provider import OpenAIMediaGeneratorModel
from app.media_generator.replicate_media_generator.provider import ReplicateMediaGeneratorModel
from app.webhooks.signing import headers
from fleek.testing import open_http
from tests.providers.openai import picture
from tests.providers.server import Server, respond_with
from tests.support import pieces

PICTURE = picture("png") + bytes(range(256))
LARGE = picture("png") + bytes(range(256)) * 200
"""Longer than what stays in an outline."""
ATTEMPT = new_id()
DIGITS = base64.b64encode(PICTURE).decode()
URL_SAFE = base64.urlsafe_b64encode(PICTURE).decode().rstrip("=")
LINES = "\\n".join(DIGITS[at : at + 76] for at in range(0, len(DIGITS), 76))
LARGE_DIGITS = base64.b64encode(LARGE).decode()


class Shop:
    """A server that sells one purchase with the answer of a test; its files are below /files."""

    def __init__(self, server, http, vault):
        self.server, self.http, self.vault = server, http, vault
        for path in ("/files/", "/view"):
            server.answers[path] = respond_with(PICTURE)

    def fill(self, body):
        """The body with what is known of this server, and the picture."""
        if isinstance(body, bytes):
            return body
        marks = {"@SAVED@": SAVED, "@PNG@": DIGITS, "@BASE@": self.server.url, "@ATTEMPT@": str(ATTEMPT)}
        for mark, text in marks.items():
            body = body.replace(mark, text)
        return body.encode()

    def openai(self, body, status=200):
        self.server.answers["/v1/images"] = respond_with(self.fill(body), status=status)
        account = Account("lab", {"base_url": f"{self.server.url}/v1"})
        return OpenAIMediaGeneratorModel.open_account(ProviderSetup(account, self.http, (), self.vault))

    def cog(self, body, status=200):
        self.server.answers["/predictions"] = respond_with(self.fill(body), status=status)
        account = Account("cog", {"base_url": self.server.url})
        return CogMediaGeneratorModel.open_account(ProviderSetup(account, self.http, (), self.vault))

    def replicate(self, body, status=200):
        self.server.answers["/v1/models"] = respond_with(b'{"id": "one", "status": "starting"}', status=201)
        self.server.answers["/v1/predictions/one"] = respond_with(self.fill(body), status=status)
        account = Account("replicate", {"api_token": "t", "base_url": f"{self.server.url}/v1"})
        cards = Catalogue().models("replicate", "replicate")
        return ReplicateMediaGeneratorModel.open_account(ProviderSetup(account, self.http, cards))

    def fal(self, body, status=200):
        name = Catalogue().models("fal", "fal")[0].name
        app = "/".join(name.split("/")[:2])
        self.server.answers[f"/{name}"] = respond_with(b'{"request_id": "one"}')
        self.server.answers[f"/{app}/requests/one"] = respond_with(self.fill(body), status=status)
        self.server.answers[f"/{app}/requests/one/status"] = respond_with(b'{"status": "COMPLETED", "logs": null}')
        account = Account("fal", {"key": "k", "base_url": self.server.url})
        cards = Catalogue().models("fal", "fal")
        return FalMediaGeneratorModel.open_account(ProviderSetup(account, self.http, cards))

    def comfyui(self, body, status=200):
        self.server.answers["/prompt"] = respond_with(json.dumps({"prompt_id": str(ATTEMPT)}).encode())
        self.server.answers["/history/"] = respond_with(self.fill(body), status=status)
        account = Account("comfyui", {"base_url": self.server.url, "workflows": str(ROOT / "deploy" / "comfyui")})
        return ComfyUIMediaGeneratorModel.open_account(ProviderSetup(account, self.http))


@pytest.fixture
async def shop(vault):
    async with Server() as server, open_http() as http:
        yield Shop(server, http, vault)


async def bought(provider):
    model = provider.models()[0].name
    return await provider.submit(Submission(ATTEMPT, 1, model, "a lighthouse", {}))


async def outcome_of(provider):
    """What became of a purchase, or the error of a call."""
    try:
        return await provider.poll(await bought(provider))
    except ProviderError as error:
        return error


async def contents(provider):
    """The bytes of the outputs."""
    outcome = await provider.poll(await bought(provider))
    assert isinstance(outcome, Succeeded), outcome
    assert "\x00" not in (outcome.log or "")
    (outcome.log or "").encode()
    return [b"".join([chunk async for chunk in provider.open(output)]) for output in outcome.outputs]


def item(member):
    return '{"created": 1, "data": [{@}]}'.replace("@", member, 1)


def of_cog(output, more=""):
    return '{"status": "succeeded", "logs": "", "metrics": {}, "error": null, "output": ' + output + more + "}"


def of_replicate(output='["@BASE@/files/a.png"]', more=""):
    return '{"id": "one", "status": "succeeded", "error": null, "output": ' + output + more + "}"


def of_comfyui(outputs, more=""):
    prompt = '"prompt": [1, "@ATTEMPT@", {}, {}, ["12"]]'
    return '{"@ATTEMPT@": {' + prompt + ', "status": {}, "outputs": ' + outputs + more + "}}"


SAVED = '{"filename": "a.png", "subfolder": null, "type": null}'

KEPT = {
    "openai": {
        "usual": item(f'"b64_json": "{DIGITS}"'),
        "byte order mark": b"\xef\xbb\xbf" + item(f'"b64_json": "{DIGITS}"').encode(),
        "UTF-16": item(f'"b64_json": "{DIGITS}", "revised_prompt": "é"').encode("utf-16"),
        "blank lines and NULs": b"\r\n\r\n" + item(f'"b64_json": "{DIGITS}"').encode() + b"\n\x00",
        "bytes behind": item(f'"b64_json": "{DIGITS}"').encode() + b"\n<!-- cached -->",
        "data URI as url": item(f'"url": "data:image/png;base64,{DIGITS}"'),
        "data URI as base64": item(f'"b64_json": "data:image/png;base64,{DIGITS}"'),
        "data URI without type": item(f'"url": "data:;base64,{DIGITS}"'),
        "data URI with parameters": item(f'"url": "DATA:application/octet-stream;name=a.png;Base64,{DIGITS}"'),
        "URL-safe without padding": item(f'"b64_json": "{URL_SAFE}"'),
        "base64 in lines": item(f'"b64_json": "{LINES}"'),
        "other key": item(f'"base64": "{DIGITS}"'),
        "key of its own": item(f'"picture_of_the_day": "{DIGITS}"'),
        "base64 as url": item(f'"url": "{DIGITS}"'),
        "bare text": '{"data": ["@PNG@"]}',
        "object": '{"data": {"b64_json": "@PNG@"}}',
        "list": '[{"b64_json": "@PNG@"}]',
        "relative": item('"url": "/files/a.png"'),
        "relative to the endpoint": item('"url": "../../files/a.png"'),
        "blanks and dots": item('"url": " @BASE@/files/a/../b.png?name=a b.png\\n"'),
        "umlauts": item('"url": "@BASE@/files/ä ö.png"'),
        "null beside": item('"b64_json": null, "url": "@BASE@/files/a.png"'),
        "empty beside": item('"b64_json": "", "url": "@BASE@/files/a.png"'),
        "nulls in the list": '{"data": [null, {}, "", {"url": null}, {"url": "@BASE@/files/a.png"}]}',
        "images": '{"images": [{"url": "@BASE@/files/a.png"}], "timings": {"inference": 0.3}}',
        "images beside": '{"images": [{"url": "@BASE@/files/a.png"}], "data": [{"url": "@BASE@/files/a.png"}]}',
        "image": '{"image": "@PNG@"}',
        "output": '{"output": ["@BASE@/files/a.png"], "data": null}',
        "url": '{"url": "@BASE@/files/a.png", "error": null}',
        "NaN": item(f'"b64_json": "{DIGITS}"').replace("1", "NaN", 1),
        "half a character": item(f'"b64_json": "{DIGITS}", "revised_prompt": "a cat \\ud83d"'),
        "NUL": item(f'"b64_json": "{DIGITS}", "revised_prompt": "a\\u0000b"'),
        "latin-1": item(f'"b64_json": "{DIGITS}", "revised_prompt": "café"').encode("latin-1"),
        "usage of another type": item(f'"b64_json": "{DIGITS}"')[:-1] + ', "usage": [1e999, {"total_tokens": {}}]}',
        "null comes later": item(f'"b64_json": "{DIGITS}", "b64_json": null'),
        "deep": '{"trace": ' + "[" * 100_000 + "]" * 100_000 + ', "data": [{"b64_json": "@PNG@"}]}',
        "long": '{"trace": "' + "x" * 2_000_000 + '", "data": [{"b64_json": "@PNG@"}]}',
    },
    "cog": {
        "usual": of_cog(f'"data:image/png;base64,{DIGITS}"'),
        "NaN": of_cog('{"image": "data:image/png;base64,@PNG@", "score": NaN}'),
        "odd log": of_cog(f'"data:image/png;base64,{DIGITS}"').replace('"logs": ""', '"logs": "1\\u0000 \\ud83d"'),
        "nulls": of_cog(f'[null, "data:image/png;base64,{DIGITS}", ""]'),
        "without type": of_cog(f'"data:;base64,{DIGITS}"'),
        "type without base64": of_cog(f'"data:image/png,{DIGITS}"'),
        "bare base64": of_cog(f'"{DIGITS}"'),
        "relative": of_cog('["/files/a.png"]'),
        "blanks": of_cog('"@BASE@/files/a b.png"'),
        "without status": '{"output": "data:image/png;base64,@PNG@"}',
        "odd members": of_cog(
            f'"data:image/png;base64,{DIGITS}"', ', "logs": 7, "metrics": [1], "status": "succeeded"'
        ),
    },
    "replicate": {
        "usual": of_replicate(),
        "NaN": of_replicate(more=', "metrics": {"predict_time": NaN}'),
        "half a character": of_replicate(more=', "logs": "seed \\ud83d"'),
        "NUL": of_replicate(more=', "logs": "seed \\u0000"'),
        "nulls in the list": of_replicate('["@BASE@/files/a.png", null, ""]'),
        "null members": of_replicate(more=', "logs": null, "metrics": null, "model": null, "created_at": null'),
        "odd members": of_replicate(more=', "logs": [], "metrics": 7, "model": {}, "created_at": 1e999, "input": []'),
        "without id": '{"status": "succeeded", "output": "@BASE@/files/a.png"}',
        "relative": of_replicate('"/files/a.png"'),
        "object": of_replicate('{"url": "@BASE@/files/a.png"}'),
        "data URI": of_replicate(f'"data:application/octet-stream;base64,{DIGITS}"'),
    },
    "fal": {
        "usual": '{"images": [{"url": "@BASE@/files/a.png"}], "seed": 18446744073709551615}',
        "sync mode": '{"images": [{"url": "data:image/png;base64,@PNG@", "content_type": "image/png"}]}',
        "large number": '{"images": [{"url": "@BASE@/files/a.png"}], "seed": ' + "9" * 5_000 + "}",
        "NaN": '{"images": [{"url": "@BASE@/files/a.png"}], "timings": {"inference": NaN}}',
        "bare": '{"images": ["@BASE@/files/a.png"]}',
        "object": '{"images": {"url": "@BASE@/files/a.png"}}',
        "list": '[{"url": "@BASE@/files/a.png"}]',
        "relative": '{"image": {"url": "/files/a.png", "content_type": null}}',
        "umlauts": '{"image": {"url": "@BASE@/files/ü 1.png"}}',
        "nulls": '{"images": [null, "", {"url": null}, {"url": "@BASE@/files/a.png"}], "video": null}',
        "in the answer": '{"image": {"url": null, "file_data": "@PNG@"}}',
    },
    "comfyui": {
        "usual": of_comfyui('{"9": {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}}'),
        "null members": of_comfyui('{"9": {"images": [@SAVED@]}}'),
        "null beside": of_comfyui('{"12": null, "9": {"text": null, "images": [@SAVED@, null]}}'),
        "bare name": of_comfyui('{"9": {"images": ["a.png"]}}'),
        "object": of_comfyui('{"9": {"images": @SAVED@}}'),
        "address": of_comfyui('{"9": {"images": [{"url": "@BASE@/files/a.png"}]}}'),
        "in the answer": of_comfyui('{"9": {"images": [{"image": "data:image/png;base64,@PNG@"}]}}'),
        "null status": of_comfyui('{"9": {"images": [@SAVED@]}}', ', "status": null, "meta": null'),
        "NaN in the workflow": of_comfyui('{"9": {"images": [@SAVED@]}}', ', "meta": {"cfg": NaN, "x": "\\ud83d"}'),
    },
}
CASES = [(kind, name) for kind, answers in KEPT.items() for name in answers]


@pytest.mark.parametrize(("kind", "name"), CASES)
async def test_what_was_paid_for_is_kept_in_every_notation(shop, kind, name):
    provider = getattr(shop, kind)(KEPT[kind][name])

    assert await contents(provider) == [PICTURE]


async def test_address_without_a_scheme_has_that_of_the_answer(shop):
    host = shop.server.url.partition(":")[2]

    assert await contents(shop.openai(item(f'"url": "{host}/files/a.png"'))) == [PICTURE]
    assert await contents(shop.replicate(of_replicate(f'["{host}/files/a.png"]'))) == [PICTURE]


@pytest.mark.parametrize("status", [200, 201, 203, 206, 226])
@pytest.mark.parametrize("kind", KEPT)
async def test_every_success_is_read(shop, kind, status):
    provider = getattr(shop, kind)(KEPT[kind]["usual"], status)

    assert await contents(provider) == [PICTURE]


@pytest.mark.parametrize("kind", ["openai", "cog"])
async def test_result_in_an_answer_with_202_is_read(shop, kind):
    assert await contents(getattr(shop, kind)(KEPT[kind]["usual"], 202)) == [PICTURE]


@pytest.mark.parametrize(
    "member",
    [
        f'"b64_json": "{LARGE_DIGITS}"',
        f'"b64_json": "{base64.urlsafe_b64encode(LARGE).decode().rstrip("=")}"',
        f'"url": "data:;name=a;base64,{LARGE_DIGITS}"',
        f'"odd": "{LARGE_DIGITS}"',
        '"url": "data:image/png,' + "".join(f"%{byte:02x}" for byte in LARGE) + '"',
        '"b64_json": "' + LARGE_DIGITS.replace("/", "\\/") + '"',
    ],
    ids=["base64", "URL-safe", "data URI", "key of its own", "percent-encoded", "escaped"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
async def test_long_picture_is_found_under_any_key_and_in_any_notation(shop, member, encoding):
    body = item(f'"revised_prompt": "{"a long prompt, é " * 2_000}", {member}').encode(encoding)

    assert await contents(shop.openai(body)) == [LARGE]


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("openai", '{"error": {"message": "upstream busy", "code": "server_busy"}}', "upstream busy"),
        ("openai", '{"errors": ["upstream", {"msg": "busy"}], "data": [null]}', "upstream; busy"),
        ("openai", '{"detail": "upstream busy"}', "upstream busy"),
        ("replicate", '{"id": "one", "status": "failed", "output": null, "error": "boom \\u0000 x"}', "boom \ufffd x"),
        ("replicate", '{"id": "one", "status": "failed", "error": {"message": ["boom"]}}', "boom"),
        ("cog", '{"status": "failed", "output": null, "error": ["boom", null]}', "boom"),
        ("fal", '{"detail": [{"msg": null, "type": "x"}], "error": ["boom"]}', "x"),
    ],
)
async def test_error_of_any_form_is_told_in_words(shop, kind, body, words):
    provider = getattr(shop, kind)(body, 422 if kind == "fal" else 200)

    outcome = await provider.poll(await bought(provider))

    assert isinstance(outcome, Failed)
    assert outcome.error.sent is Sent.YES
    assert words in outcome.error.message


UNREADABLE = {
    "replicate": ["<html>", "{}", "[]", '{"status": null}', '{"status": "weird"}', '{"status": "succ'],
    "fal": ["<html>", "[]", "17", '"text"', '{"images": [{"url": "ht'],
    "comfyui": ["<html>", "[]", '{"@ATTEMPT@": null}', '{"@ATTEMPT@": []}'],
}


@pytest.mark.parametrize(("kind", "body"), [(kind, body) for kind, bodies in UNREADABLE.items() for body in bodies])
async def test_unreadable_poll_is_told_apart_from_one_that_did_not_arrive(shop, kind, body):
    provider = getattr(shop, kind)(body)
    reference = await bought(provider)

    outcome = await adapter_calls.poll(provider, reference)

    assert isinstance(outcome, Running)
    assert outcome.unreadable
    assert outcome.not_reached
    shop.server.answers = {"/": shop.server.drop}
    outcome = await adapter_calls.poll(provider, reference)
    assert isinstance(outcome, Running)
    assert not outcome.unreadable


@pytest.mark.parametrize("body", ["{}", '{"queue_running": null, "queue_pending": []}', '{"queue_running": [null]}'])
async def test_job_is_not_given_up_for_a_queue_that_cannot_be_read(shop, body):
    provider = shop.comfyui("{}")
    shop.server.answers["/queue"] = respond_with(body.encode())

    with pytest.raises(UnreadableAnswerError):
        await provider.poll(await bought(provider))


@pytest.mark.parametrize("body", ["<html>", "", "null", "{}", '{"id": null, "request_id": [], "prompt_id": {}}'])
@pytest.mark.parametrize("kind", KEPT)
async def test_unreadable_answer_to_a_submit_is_unknown_or_billed(shop, kind, body):
    provider = getattr(shop, kind)(body)
    for path in ("/v1/models", "/prompt", f"/{provider.models()[0].name}"):
        shop.server.answers[path] = respond_with(body.encode(), status=201)

    outcome = await outcome_of(provider)

    sent = outcome.error.sent if isinstance(outcome, Failed) else outcome.sent
    assert sent is (Sent.YES if isinstance(outcome, Failed) else Sent.UNKNOWN)


@pytest.mark.parametrize(
    "location", ["http://[", "https://", "data:image/png;base64", "data:;base64,****", "https://a b/"]
)
@pytest.mark.parametrize("kind", ["replicate", "fal", "openai"])
async def test_place_that_cannot_be_opened_is_a_named_error(shop, kind, location):
    provider = getattr(shop, kind)("{}")

    with pytest.raises(ProviderError):
        await anext(provider.open(Output(location)))


async def test_list_that_cannot_be_read_whole_does_not_prove_that_there_is_no_purchase(shop):
    provider = shop.replicate("{}")
    model = provider.models()[0].name
    submission = Submission(new_id(), 1, model, "a lighthouse", {})
    for page in ("{}", '{"results": null, "next": null}', '{"results": []}', '{"results": [7], "next": null}'):
        shop.server.answers["/v1/predictions"] = respond_with(page.encode())
        with pytest.raises(UnreadableAnswerError):
            await provider.find(submission, datetime.now(UTC))


@pytest.mark.parametrize("name", KEPT["cog"])
async def test_callback_that_is_the_result_is_read_in_every_notation(vault, name):
    body = KEPT["cog"][name].replace("@PNG@", DIGITS).replace("@BASE@", "https://cog.test").encode()
    async with open_http() as http:
        account = Account("cog", {"base_url": "https://cog.test", "callback_url": "http://api.test"})
        provider = CogMediaGeneratorModel.open_account(ProviderSetup(account, http, (), vault))

        reference = await provider.take_answer(ATTEMPT, pieces(b"\xef\xbb\xbf" + body))
        outcome = await provider.poll(reference)

    assert isinstance(outcome, Succeeded)
    assert len(outcome.outputs) == 1


@pytest.mark.parametrize(
    "more", [b'"logs": "\\ud83d \\u0000"', b'"metrics": {"x": NaN}', b'"logs": "caf\xe9"', b'"version": []']
)
async def test_callback_names_its_purchase_in_every_notation(shop, more):
    body = b'\xef\xbb\xbf{"id": "one", "status": "succeeded", ' + more + b"}"
    secret = "whsec_" + base64.b64encode(bytes(24)).decode()
    now = datetime.now(UTC)
    signed = {name.lower(): value for name, value in headers([secret], "msg_1", int(now.timestamp()), body).items()}

    reference = shop.replicate("{}").read_callback(Callback(ATTEMPT, signed, body, now), [secret])

    assert reference == Reference("one")
