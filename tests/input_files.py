"""Files that an `input` names, and a provider that takes them as the test says."""

import base64
from dataclasses import replace
from datetime import timedelta

from app.media_generator.dummy_media_generator.png import png_of_about
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from fleek.providers import AnswerLostError

PNG = png_of_about(3_000)
LARGE_PNG = png_of_about(90_000)
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "image": {"anyOf": [{"type": "string", "format": "uri"}, {"type": "null"}]},
        "images": {"type": "array", "items": {"$ref": "#/$defs/file"}},
        "word": {"type": "string"},
        "strength": {"type": "number"},
        "weights": {"type": "string", "format": "uri", "default": "https://example.com/usual.bin"},
    },
    "$defs": {"file": {"type": "string", "format": "uri"}},
}


class FileProvider(DummyMediaGeneratorModel):
    """Takes input files as the test says, and records what it is given."""

    def __init__(self, **capabilities):
        super().__init__()
        self.capabilities = replace(
            DummyMediaGeneratorModel.capabilities, submit_timeout=timedelta(seconds=5), **capabilities
        )
        self.submitted_inputs = []
        self.uploads = []
        self.looked_up_inputs = []
        self.upload_errors = []
        self.loses_answers = False

    def models(self):
        faulty = next(card for card in super().models() if card.name == "faulty")
        return [replace(faulty, input_schema=SCHEMA, example={})]

    async def submit(self, submission):
        self.submitted_inputs.append(submission.input)
        reference = await super().submit(replace(submission, input={}))
        if self.loses_answers:
            raise AnswerLostError("lost")
        return reference

    async def find(self, submission, since):
        self.looked_up_inputs.append(submission.input)
        return await super().find(replace(submission, input={}), since)

    async def upload(self, file):
        if self.upload_errors:
            raise self.upload_errors.pop(0)
        self.uploads.append((file.media_type, file.size, b"".join([chunk async for chunk in file.chunks()])))
        return f"upload-{len(self.uploads)}"


async def upload(client, content=PNG):
    """The `file:` URI of an upload."""
    answer = await client.api.post("/files", files={"file": ("a.png", content)})
    return answer.json()["uri"]


def data_uri(content=PNG):
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


async def generate(client, **given):
    """A media item with this input."""
    return await client.generate(model="dummy/faulty", input=given)


async def problem_of(client, **given):
    """The problem with which a request with this input is refused."""
    answer = await client.api.post("/media/generate", json={"prompt": "x", "model": "dummy/faulty", "input": given})
    assert answer.status_code == 422, answer.text
    return answer.json()
