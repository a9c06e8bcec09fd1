"""What docs/how-to/use-input-files.md tells to run, against the API behind a real server."""

import asyncio
import json
import socket
from dataclasses import replace

import httpx2
import pytest
import uvicorn

from app.main import create_app
from app.media_generator.dummy_media_generator.png import png_of_about
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.registry import Registry
from tests.pages import API, curl, curl_lines
from tests.sample_media import MP4
from tests.support import Client, eventually

PAGE = "use-input-files.md"


class Acme(DummyMediaGeneratorModel):
    """Takes a picture and answers with a video."""

    name = "acme"
    capabilities = replace(DummyMediaGeneratorModel.capabilities, data_uri_bytes=10_000_000)

    def models(self):
        (faulty,) = (card for card in super().models() if card.name == "faulty")
        image = {"type": "string", "format": "uri"}
        schema = {"type": "object", "additionalProperties": False, "properties": {"image": image}}
        return [replace(faulty, name="restyle", output_types=("video/mp4",), input_schema=schema, example={})]

    async def submit(self, submission):
        assert submission.input["image"].startswith("data:")
        return await super().submit(replace(submission, model="faulty", input={}))

    async def open(self, output):
        yield MP4


@pytest.fixture
async def server(settings, bell, working):
    provider = Acme()
    await working(provider)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        app = create_app(settings, bell, Registry([provider]))
        running = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        running.config.setup_event_loop = lambda: None
        task = asyncio.create_task(running._serve([listening]))
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with httpx2.AsyncClient(base_url=address, trust_env=False) as api:
            await eventually(Client(api).answers)
        yield address
        running.should_exit = True
        await task


async def test_its_commands_do_what_it_says(server, tmp_path):
    picture, poster = tmp_path / "cat.png", tmp_path / "poster.jpg"
    picture.write_bytes(png_of_about(3_000))
    words = {API: server, "cat.png": str(picture), "poster.jpg": str(poster)}
    printed = []
    for command in curl_lines(PAGE):
        printed.append(await asyncio.to_thread(curl, command, words))
        shown = json.loads(printed[-1] or "{}")
        if shown.get("uri"):
            words["FILE_ID"] = shown["id"]
        elif shown.get("job_id"):
            assert shown["status"] == "COMPLETED", shown
            words["MEDIA_ID"] = shown["id"]

    handed_in, one, listed, *_ = (json.loads(text) for text in printed[:4])
    assert handed_in == one == listed["items"][0]
    assert handed_in["name"] == "cat.png"
    assert poster.read_bytes().startswith(b"\xff\xd8")
