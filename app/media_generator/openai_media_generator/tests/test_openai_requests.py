"""The requests that are sent to the Images API, and the models that each account offers."""

from email import message_from_bytes
from email.policy import HTTP

import msgspec
import pytest

from app.core.errors import SettingsError
from app.media_generator.accounts import Account, ProviderSetup
from app.media_generator.errors import InputRefusedError
from app.media_generator.media_generator_model import Succeeded
from app.media_generator.openai_media_generator.provider import OpenAIMediaGeneratorModel
from tests.providers.openai import FLARE, PROMPT, answer_with, base64_of, new_submission, picture
from tests.providers.server import respond_with


async def test_reference_images_make_the_request_an_edit(lab, server):
    server.answers["/v1/images/edits"] = respond_with(answer_with(picture()))
    first, second, mask = picture("png"), picture("jpeg"), picture("png", colour="red")
    uris = [f"data:image/{kind};base64,{base64_of(content)}" for kind, content in (("png", first), ("jpeg", second))]
    given = {"image": uris, "mask": f"data:image/png;base64,{base64_of(mask)}", "n": 2, "size": "512x512"}

    outcome = await lab.poll(await lab.submit(new_submission("gîte, \r\nby night", "sdxl", **given)))

    assert isinstance(outcome, Succeeded)
    (came,) = server.requests
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


async def test_aimock_accepts_an_edit(aimock, make):
    provider = make(base_url=f"{aimock.url}/v1", models=FLARE)
    uri = f"data:image/png;base64,{base64_of(picture('png'))}"

    outcome = await provider.poll(await provider.submit(new_submission(image=[uri])))

    assert isinstance(outcome, Succeeded)
    (arrived,) = await aimock.arrived("POST", "/v1/images/edits", PROMPT)
    assert arrived["body"]["model"] == FLARE


@pytest.mark.parametrize("uri", ["https://example.com/a.png", "data:image/png;base64,*", "data:text", ""])
async def test_unreadable_picture_is_refused_before_sending(lab, server, uri):
    with pytest.raises(InputRefusedError):
        await lab.submit(new_submission(model="sdxl", image=[uri]))

    assert server.requests == []


async def test_request_contains_only_fields_that_the_server_accepts(lab, make, server):
    server.answers["/v1/"] = respond_with(answer_with(picture()))
    unnamed = make("lab", base_url=f"{server.url}/v1")

    await lab.submit(new_submission(model="sdxl", seed=7))
    await unnamed.submit(new_submission(model="images"))

    named, plain = (msgspec.json.decode(came.body) for came in server.requests)
    assert named == {"prompt": PROMPT, "model": "sdxl", "seed": 7, "response_format": "b64_json"}
    assert plain == {"prompt": PROMPT, "response_format": "b64_json"}


def test_each_account_offers_the_models_of_its_server(make):
    openai = {card.name: card for card in make(models="gpt-image-3").models()}
    second = make("openai-eu").models()
    gateway = make("lab", base_url="http://gateway/v1", models=f" {FLARE} , flux").models()

    assert {FLARE, "gpt-image-1", "gpt-image-3"} <= openai.keys()
    assert "response_format" not in str(openai["gpt-image-3"].options)
    assert [card.name for card in gateway] == [FLARE, "flux"]
    assert "background" in gateway[0].input_schema["properties"]
    assert not [card.name for card in (*second, *gateway) if card.aliases]


def test_only_openai_itself_requires_a_key():
    with pytest.raises(SettingsError, match="OPENAI_API_KEY"):
        OpenAIMediaGeneratorModel.open_account(ProviderSetup(Account("openai")))

    lab = OpenAIMediaGeneratorModel.open_account(ProviderSetup(Account("lab", {"base_url": "http://127.0.0.1:1/v1"})))

    assert [card.name for card in lab.models()] == ["images"]
