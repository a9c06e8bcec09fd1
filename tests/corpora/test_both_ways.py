"""Every file of the corpora as a result and as an upload, through API, worker and store."""

import asyncio
import hashlib
from dataclasses import replace

import pytest

from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.media_generator_model import Output, Succeeded
from tests.corpora.files import files

AT_ONCE = 8
NOTHING = ("zero bytes", "html", "html: with blanks before")
"""What stands in place of a result."""


class Corpora(DummyMediaGeneratorModel):
    """Its results are the files of the corpora: the prompt is the number of one."""

    def models(self):
        # It says nothing of what it makes, so that text may be what was bought.
        return [replace(card, output_types=()) for card in super().models()]

    async def submit(self, submission):
        reference = await super().submit(submission)
        return replace(reference, data={**reference.data, "file": submission.prompt})

    async def poll(self, reference):
        outcome = await super().poll(reference)
        return (
            replace(outcome, outputs=(Output(reference.data["file"]),)) if isinstance(outcome, Succeeded) else outcome
        )

    async def open(self, output):
        content = files()[int(output.location)].content
        for start in range(0, len(content), 50_000):
            yield content[start : start + 50_000]


@pytest.fixture
def one_by_one():
    """Runs a check for each file, a few at a time; the names of those for which it fails, with what was seen."""

    async def run(check):
        at_once, faults = asyncio.Semaphore(AT_ONCE), {}

        async def of(number, file):
            async with at_once:
                if (fault := await check(number, file)) is not None:
                    faults[file.name] = fault

        await asyncio.gather(*(of(number, file) for number, file in enumerate(files())))
        return faults

    return run


@pytest.mark.timeout(600)  # hundreds of files, some of which a process of its own decodes
async def test_every_file_is_kept_as_a_result_and_nothing_wrong_is_said_of_it(client, working, one_by_one):
    await working(Corpora())

    async def check(number, file):
        done = await client.until(await client.generate(model="dummy/faulty", prompt=str(number)))
        if done["status"] != "COMPLETED":
            return None if file.name in NOTHING else done["error"]
        (kept,) = done["files"]
        size = None if kept["width"] is None else (kept["width"], kept["height"])
        is_cut = "cut_off" in [one["code"] for one in kept["warnings"]]
        wanted = {
            "sha256": hashlib.sha256(file.content).hexdigest() == kept["sha256"],
            "media_type": kept["media_type"] == file.media_type,
            # Without a decoder it is null; never another one.
            "size": size in {file.size, None} or not file.is_read or file.size is None,
            "cut_off": is_cut is not file.is_complete,
        }
        return kept if not all(wanted.values()) else None

    assert await one_by_one(check) == {}


@pytest.mark.timeout(600)
async def test_what_is_accepted_as_an_upload_is_told_as_a_result_is(client, one_by_one):
    async def check(_number, file):
        answer = await client.api.post("/files", files={"file": (file.name, file.content)})
        if answer.status_code in {415, 422}:
            return None if answer.json()["code"] in {"unsupported_file", "file_cut_off"} else answer.json()
        if answer.status_code not in {200, 201}:
            return answer.text
        return None if answer.json()["media_type"] == file.media_type else answer.json()

    assert await one_by_one(check) == {}
