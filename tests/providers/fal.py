"""What the tests of the provider `fal` share: requests, answers and signed callbacks as fal writes them."""

from contextlib import asynccontextmanager
from dataclasses import replace
from io import BytesIO

import msgspec
from PIL import Image

from app.core.ids import new_id
from app.media_generator.media_generator_model import Reference, Submission
from tests.providers.server import respond_with

SCHNELL = "fal-ai/flux/schnell"


PROMPT = "a lighthouse at dawn"


VIDEO = bytes(3) + b"\x18ftypmp42" + bytes(4) + b"mp42isom" + b"\x00\x00\x00\x08mdat"


SOUND = b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00" + bytes(12) + b"data\x00\x00\x00\x00"


def picture(size=(64, 48)):
    file = BytesIO()
    Image.new("RGB", size, "teal").save(file, "png")
    return file.getvalue()


class AimockHttp:
    """aimock serves several hosts of fal at one address; a header names the intended one."""

    def __init__(self, http):
        self._http = http

    async def send(self, request):
        return await self._http.send(self._with_host(request))

    @asynccontextmanager
    async def stream(self, request):
        async with self._http.stream(self._with_host(request)) as answer:
            yield answer

    def _with_host(self, request):
        return replace(request, headers={**request.headers, "x-fal-target-host": "queue.fal.run"})


def new_submission(prompt=PROMPT, model=SCHNELL, **more):
    return Submission(new_id(), 1, model, prompt, more.pop("given", {}), **more)


def reference_to(model=SCHNELL, name="req-1"):
    return Reference(name, {"model": model})


def respond_json(**body):
    return respond_with(msgspec.json.encode(body))


def finish_request(server, body, *, status=200, name="req-1", state=None, **headers):
    """Make a request COMPLETED, with this result."""
    server.answers[f"/fal-ai/flux/requests/{name}"] = respond_with(msgspec.json.encode(body), status=status, **headers)
    server.answers[f"/fal-ai/flux/requests/{name}/status"] = respond_json(status="COMPLETED", **(state or {}))


async def bytes_of(provider, output):
    return b"".join([chunk async for chunk in provider.open(output)])
