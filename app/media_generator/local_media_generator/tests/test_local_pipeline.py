"""`local/text-to-image`: a real Diffusers pipeline, tiny and with random weights, in its own process.

It needs the extra `diffusers`. `.ci/run` installs it where PyTorch is available without CUDA; elsewhere these tests are
skipped.
"""

import asyncio
import inspect
import io
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import httpx2
import psutil
import pytest
from PIL import Image

from app.core.database.migrations import ROOT
from app.core.ids import new_id
from app.media_generator.contract.failure_contract import Trouble
from app.media_generator.contract.provider_contract import ProviderContract
from app.media_generator.local_media_generator import pipeline
from app.media_generator.local_media_generator import provider as providing
from app.media_generator.local_media_generator.messages import Order
from app.media_generator.local_media_generator.offers import LocalSettings, is_installed, pipeline_card
from app.media_generator.local_media_generator.provider import LocalMediaGeneratorModel
from app.media_generator.media_generator_model import CancelAnswer, Canceled, Running, Submission, Succeeded
from tests.event_streams import open_stream
from tests.support import Client, attempts_of, eventually, served

pytestmark = pytest.mark.timeout(600)
PATIENCE = 240
"""Seconds that loading PyTorch may take on a busy machine."""
SMALL = {"steps": 2, "width": 64, "height": 64, "seed": 7}
LONG = {**SMALL, "steps": 200}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of the pipeline. Its process reads this machine's environment."""
    if not is_installed("accelerate", "diffusers", "torch", "transformers"):
        reason = "PyTorch or Diffusers is not installed: uv sync --extra diffusers (several GB)"
        if os.environ.get("CI") == "true" and os.environ.get("WITHOUT_PYTORCH") != "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # threads that wait for each other make a busy machine slower
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # the libraries are compiled once, not at each start
        made = tmp_path_factory.mktemp("pipeline")
        command = [sys.executable, "-m", "tests.providers.tiny_pipeline", str(made)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert run.returncode == 0, run.stderr
        yield made / "tiny-pipeline"


@pytest.fixture(scope="module")
async def provider(folder):
    """Shared by all tests and already loaded; it has no other model, as if no other extra were installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(providing, "is_installed", lambda *packages: "torch" in packages)
        made = LocalMediaGeneratorModel("local", LocalSettings(pipeline=str(folder), pipeline_size=64), None)
    await made_by(made)
    yield made
    await made.close()


async def submitted(provider, prompt="a lighthouse", **given):
    complete = provider.complete_input("text-to-image", {**SMALL, **given})
    return await provider.submit(Submission(new_id(), 1, "text-to-image", prompt, complete))


async def ended(provider, reference):
    return await eventually(
        lambda: provider.poll(reference), lambda outcome: not isinstance(outcome, Running), seconds=PATIENCE
    )


async def made_by(provider, prompt="a lighthouse", **given):
    outcome = await ended(provider, await submitted(provider, prompt, **given))
    assert isinstance(outcome, Succeeded), outcome
    return Image.open(io.BytesIO(b"".join([chunk async for chunk in provider.open(outcome.outputs[0])])))


async def at_work(provider, reference):
    """Wait until some of its steps are done, but not all."""
    await eventually(lambda: provider.poll(reference), lambda outcome: 0.1 < outcome.progress < 0.9, seconds=PATIENCE)


def process_of(provider):
    return provider._studios["text-to-image"].process


class TestPipeline(ProviderContract):
    def example(self, card):
        return SMALL

    async def troubled(self, provider, trouble):
        submission = self.usual(provider)
        if trouble is Trouble.MODEL_GONE:
            return replace(submission, model="no-such-model")
        if trouble is Trouble.FAILED_LATER:
            return replace(submission, input={**submission.input, "steps": 2000})
        return None


async def test_picture_depends_on_prompt_and_seed(provider):
    one, same, other = [await made_by(provider, seed=seed) for seed in (1, 1, 2)]
    third = await made_by(provider, "a forest", seed=1)

    assert one.size == (64, 64)
    assert one.tobytes() == same.tobytes()
    assert len({picture.tobytes() for picture in (one, other, third)}) == 3


async def test_picture_has_the_requested_size_and_format(provider):
    picture = await made_by(provider, width=72, height=56, output_format="webp", negative_prompt="fog")

    assert (picture.size, picture.get_format_mimetype()) == ((72, 56), "image/webp")


async def test_progress_rises_with_each_step(provider):
    reported = []
    given = provider.complete_input("text-to-image", {**SMALL, "steps": 4})

    await process_of(provider).make(Order("a lighthouse", given), reported.append)

    assert reported == pytest.approx([0.05, 0.275, 0.5, 0.725, 0.95])


async def test_cancel_stops_at_the_next_step_and_keeps_the_pipeline_loaded(provider):
    before = process_of(provider).pid
    expected = await made_by(provider)
    reference = await submitted(provider, **LONG)
    await at_work(provider, reference)

    assert await provider.cancel(reference) is CancelAnswer.REQUESTED

    assert isinstance(await provider.poll(reference), Canceled)
    assert (await made_by(provider)).tobytes() == expected.tobytes()
    assert process_of(provider).pid == before


async def test_failed_order_reports_its_error_and_the_pipeline_goes_on(provider):
    reference = await submitted(provider, steps=2000)

    outcome = await ended(provider, reference)

    assert outcome.error.code == "generation_failed"
    assert "2000" in outcome.error.message
    assert (await made_by(provider)).size == (64, 64)


@pytest.fixture
async def api(settings, folder, tmp_path):
    """The API in a process of its own, which offers the pipeline."""
    with served(settings, tmp_path / "api.log", LOCAL_PIPELINE=str(folder)) as address:
        async with httpx2.AsyncClient(base_url=address, timeout=60, trust_env=False) as api:
            await eventually(Client(api).answers)
            yield api


async def final_status(client, media):
    seen = await eventually(
        lambda: client.media(media), lambda seen: seen["status"] not in {"IN_QUEUE", "PROCESSING"}, seconds=PATIENCE
    )
    return seen["status"]


async def test_job_reports_progress_survives_process_death_and_occupies_the_local_slot(provider, api, working):
    client = Client(api)
    await working(provider, worker_local_slots=1)
    media = await client.generate(model="local/text-to-image", input=LONG)
    await client.until(media, "PROCESSING")
    waiting = await client.generate(model="local/text-to-image", input=LONG)

    shares, killed = [], None
    async with open_stream(api, f"/media/{media['id']}/events") as reader, asyncio.timeout(PATIENCE):
        async for name, data in reader:
            if name != "progress":
                continue
            shares.append(data["progress"])
            if killed is None and data["progress"] > 0.1:
                killed = process_of(provider).pid
                psutil.Process(killed).kill()
                assert (await client.media(waiting))["status"] == "IN_QUEUE"
    fall = next(place for place, (one, next_) in enumerate(pairwise(shares)) if next_ < one) + 1
    assert shares[fall:] == sorted(shares[fall:])
    assert len(shares[fall:]) > 2

    assert await final_status(client, media) == "COMPLETED"
    assert process_of(provider).pid != killed
    [attempt] = await attempts_of(client, media)
    assert (attempt["status"], float(attempt["cost"])) == ("SUCCEEDED", 0)

    await eventually(lambda: client.media(waiting), lambda seen: (seen["progress"] or 0) > 0.1, seconds=PATIENCE)
    await api.post(f"/media/{waiting['id']}/cancel")
    assert await final_status(client, waiting) == "CANCELED"
    third = await client.generate(model="local/text-to-image", input=SMALL)
    assert await final_status(client, third) == "COMPLETED"


def takes(function):
    return inspect.signature(function).parameters


def of_words(prompt=None, num_inference_steps=50, callback_on_step_end=None, **more):
    pass


def of_a_picture(image, prompt=None, num_inference_steps=50, callback_on_step_end=None):
    pass


def of_a_film(prompt=None, num_frames=16, num_inference_steps=50, callback_on_step_end=None):
    pass


def without_steps(prompt=None):
    pass


def test_only_text_to_image_pipelines_are_accepted():
    pipeline._check("Words", takes(of_words))
    for other in (of_a_picture, of_a_film, without_steps):
        with pytest.raises(ValueError, match="not make a picture from a prompt alone"):
            pipeline._check("Other", takes(other))


@pytest.mark.parametrize("name", ["/srv/models/tiny", "/srv/models/tiny/", "somebody/tiny"])
def test_model_card_shows_the_pipeline_name_but_not_its_folder(name):
    card = pipeline_card(LocalSettings(pipeline=name))

    assert (card.title, card.version) == ("tiny", "tiny")
    assert "srv" not in str(card)
