"""Reading an answer of the Images API from the vault: outcomes, costs and pictures."""

import asyncio
import base64
import tracemalloc
from decimal import Decimal
from io import BytesIO

import msgspec
import pytest
from aiohttp import web
from PIL import Image

from app.media_generator.accounts import Account, ProviderSetup
from app.media_generator.errors import ContentStoppedError, GenerationFailedError, OutputError, Sent
from app.media_generator.media_generator_model import Failed, Output, Reference, Succeeded
from app.media_generator.openai_media_generator.provider import OpenAIMediaGeneratorModel
from tests.providers.openai import FLARE, answer_with, base64_of, bytes_of, new_submission, picture
from tests.providers.server import Server, respond_with


async def test_stored_reference_works_in_another_process(make, lab, server):
    content = picture()
    server.answers["/v1/"] = respond_with(answer_with(content))
    reference = await lab.submit(new_submission(model="sdxl"))
    stored = msgspec.json.decode(msgspec.json.encode(reference), type=Reference)
    server.answers["/v1/"] = server.drop

    other = make("lab", base_url=f"{server.url}/v1", models="sdxl")
    outcome = await other.poll(stored)

    assert await bytes_of(other, outcome.outputs[0]) == content
    assert len(server.requests) == 1


async def test_settled_deletes_the_answer_from_the_vault(lab, server):
    server.answers["/v1/"] = respond_with(answer_with(picture() + bytes(20_000)))
    reference = await lab.submit(new_submission(model="sdxl"))
    outcome = await lab.poll(reference)

    await lab.settled(reference)
    await lab.settled(reference)

    gone = await lab.poll(reference)
    assert isinstance(gone, Failed)
    assert isinstance(gone.error, OutputError)
    with pytest.raises(OutputError):
        await bytes_of(lab, outcome.outputs[0])


async def test_tokens_are_reported_and_priced(make, aimock, server, vault, http):
    usage = {
        "total_tokens": 1600,
        "input_tokens": 600,
        "output_tokens": 1000,
        "input_tokens_details": {"text_tokens": 100, "image_tokens": 500},
    }
    server.answers["/v1/"] = respond_with(answer_with(picture(), usage=usage))
    provider = make(base_url=f"{server.url}/v1", models=FLARE)

    outcome = await provider.poll(await provider.submit(new_submission()))

    assert outcome.units["token"] == 1600
    assert outcome.units["output_token"] == 1000
    # 100 text tokens at 5, 500 image tokens at 8 and 1000 output tokens at 30 dollars a million
    assert outcome.cost == Decimal("0.0345")


@pytest.mark.parametrize("usage", [None, [], {"total_tokens": "many"}, {"output_tokens": -1}, {"output_tokens": True}])
async def test_invalid_usage_does_not_fail_the_purchase(make, server, usage):
    server.answers["/v1/"] = respond_with(answer_with(picture(), usage=usage))
    provider = make(base_url=f"{server.url}/v1", models=FLARE)

    outcome = await provider.poll(await provider.submit(new_submission()))

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
        (b'{"data": 7}', GenerationFailedError),
        (b'{"data": [], "long": "' + b"x" * 1_100_000 + b'"}', GenerationFailedError),
        (b'{"data": [}', OutputError),
        (b'{"data": [], "words": [' + (b'"' + b"w" * 16_000 + b'",') * 1_100 + b"1]}", OutputError),
    ],
)
async def test_answer_without_picture_is_a_billed_failure(lab, server, body, kind):
    server.answers["/v1/"] = respond_with(body)

    outcome = await lab.poll(await lab.submit(new_submission(model="sdxl")))

    assert isinstance(outcome, Failed)
    assert type(outcome.error) is kind
    assert outcome.error.sent is Sent.YES


async def test_picture_that_is_not_base64_is_an_output_error(lab, server):
    server.answers["/v1/"] = respond_with(b'{"data": [{"b64_json": "' + b"*" * 400 + b'"}]}')

    outcome = await lab.poll(await lab.submit(new_submission(model="sdxl")))

    with pytest.raises(OutputError):
        await bytes_of(lab, outcome.outputs[0])


@pytest.mark.parametrize(
    "notation",
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
async def test_base64_is_decoded_in_every_json_notation(lab, server, notation, spaced):
    contents = [picture("png", (64, 48), (n, 7 * n, 255 - n)) + bytes(range(256)) * n for n in (1, 2, 300)]
    key = '"b64_json" :\n "' if spaced else '"b64_json":"'
    items = ",".join("{" + key + notation(base64_of(content)) + '"}' for content in contents)
    server.answers["/v1/"] = respond_with(
        ('{"note": "a \\"b64_json\\":\\" in words", "data": [' + items + "]}\n").encode()
    )

    outcome = await lab.poll(await lab.submit(new_submission(model="sdxl")))

    assert [await bytes_of(lab, output) for output in outcome.outputs] == contents


class FileVault:
    """A vault in a folder, which holds nothing in memory, unlike a store's client."""

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


async def test_huge_picture_is_streamed_in_little_memory(http, server, tmp_path):
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
    provider = OpenAIMediaGeneratorModel.open_account(ProviderSetup(account, http, (), FileVault(tmp_path)))
    tracemalloc.start()
    try:
        outcome = await provider.poll(await provider.submit(new_submission(model="images")))
        size = 0
        async for chunk in provider.open(outcome.outputs[0]):
            size += len(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert size == count * 3 * 256 * 1024
    assert peak < 8 * 1024 * 1024, f"{peak / 2**20:.0f} MiB for an answer of {count} MiB"


async def test_picture_url_is_downloaded_and_the_key_goes_only_to_the_own_server(lab, make, server):
    content = picture()
    server.answers["/v1/"] = respond_with(msgspec.json.encode({"data": [{"url": f"{server.url}/made/1.webp"}]}))
    server.answers["/made/"] = respond_with(content)

    outcome = await lab.poll(await lab.submit(new_submission(model="sdxl")))

    assert await bytes_of(lab, outcome.outputs[0]) == content
    assert server.requests[-1].headers["authorization"] == "Bearer sk-test"
    async with Server() as elsewhere:
        with pytest.raises(OutputError, match="private or loopback"):
            await bytes_of(lab, Output(f"{elsewhere.url}/made/1.webp"))
        assert elsewhere.requests == []


async def test_missing_output_is_an_output_error(lab, server):
    server.answers["/v1/"] = respond_with(msgspec.json.encode({"data": [{"url": f"{server.url}/made/1.webp"}]}))
    outcome = await lab.poll(await lab.submit(new_submission(model="sdxl")))
    server.answers["/made/"] = respond_with(b"", status=404)

    with pytest.raises(OutputError):
        await bytes_of(lab, outcome.outputs[0])


async def test_concurrent_submissions_do_not_mix(lab, server):
    async def by_prompt(request):
        body = msgspec.json.decode(await request.read())
        return web.Response(body=answer_with(picture("png", (64, int(body["prompt"])))))

    server.answers["/v1/"] = by_prompt
    references = await asyncio.gather(*(lab.submit(new_submission(str(lines), "sdxl")) for lines in range(20, 40)))

    for lines, reference in zip(range(20, 40), references, strict=True):
        outcome = await lab.poll(reference)
        content = await bytes_of(lab, outcome.outputs[0])
        assert Image.open(BytesIO(content)).height == lines
