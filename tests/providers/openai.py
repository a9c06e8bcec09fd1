"""What the tests of the provider `openai` share: submissions, pictures, and answers as the Images API writes them."""

import base64
from io import BytesIO

import msgspec
from PIL import Image

from app.core.ids import new_id
from app.media_generator.media_generator_model import Submission

FLARE = "gpt-image-2.6-flare"


PROMPT = "a lighthouse at dawn"


FORBIDDEN = "something forbidden"


def picture(kind="webp", size=(64, 48), colour="teal"):
    file = BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def base64_of(content):
    return base64.b64encode(content).decode()


def answer_with(*pictures, **more):
    data = [{"b64_json": base64_of(content)} for content in pictures]
    return msgspec.json.encode({"created": 1, **more, "data": data})


def new_submission(prompt=PROMPT, model=FLARE, **given):
    return Submission(new_id(), 1, model, prompt, given)


async def bytes_of(provider, output):
    return b"".join([chunk async for chunk in provider.open(output)])
