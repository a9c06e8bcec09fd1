"""What a purchase made before it failed was paid for: it is the result. Other files in its answer are not."""

import json

import pytest

from app.core.database.migrations import ROOT
from app.core.ids import new_id
from app.media_generator.accounts import Account, ProviderSetup
from app.media_generator.cog_media_generator.provider import CogMediaGeneratorModel
from app.media_generator.comfyui_media_generator.provider import ComfyUIMediaGeneratorModel
from app.media_generator.media_generator_model import Canceled, Failed, Reference, Succeeded
from app.media_generator.replicate_media_generator.wire import Prediction
from fleek.testing import open_http
from tests.providers.server import Server, respond_with
from tests.support import pieces

FILE = "https://x.y/1.png"
NONE = (None, [], "words", ["some ", "text"], {"a": 1}, "https://x.y/in.png")
GIVEN = {"image": "https://x.y/in.png"}


def predicted(output, status="failed"):
    return Prediction(id="p", status=status, error="the last frame", input=GIVEN, output=output)


async def cog_outcome(vault, output, status="failed"):
    body = json.dumps({"status": status, "error": "the last frame", "input": GIVEN, "output": output}).encode()
    async with open_http() as http:
        provider = CogMediaGeneratorModel.open_account(
            ProviderSetup(Account("cog", {"base_url": "http://127.0.0.1:9"}), http, (), vault)
        )
        attempt = new_id()
        name = await vault.keep(attempt, pieces(body))
        return await provider.poll(Reference(str(attempt), {"answer": name}))


async def comfyui_outcome(outputs, kind="execution_error"):
    async with Server() as server, open_http() as http:
        variables = {"base_url": server.url, "workflows": str(ROOT / "deploy" / "comfyui")}
        provider = ComfyUIMediaGeneratorModel.open_account(ProviderSetup(Account("comfyui", variables), http))
        status = {"status_str": "error", "messages": [[kind, {"exception_message": "the last frame"}]]}
        entry = {"prompt": [1, "one", {}, {}, []], "status": status, "outputs": outputs}
        server.answers["/history"] = respond_with(json.dumps({"one": entry}).encode())
        return await provider.poll(Reference("one", {"outputs": []}))


@pytest.mark.parametrize("output", [FILE, [FILE, "words"], {"video": FILE, "seed": 7}], ids=str)
async def test_files_of_a_failed_prediction_are_the_result(vault, output):
    for outcome in (predicted(output).outcome("https://x.y/p"), await cog_outcome(vault, output)):
        assert isinstance(outcome, Succeeded)
        assert len(outcome.outputs) == 1
        assert "the last frame" in outcome.log


@pytest.mark.parametrize("output", NONE, ids=str)
async def test_failed_prediction_without_files_has_failed(vault, output):
    for outcome in (predicted(output).outcome("https://x.y/p"), await cog_outcome(vault, output)):
        assert isinstance(outcome, Failed)


async def test_canceled_prediction_is_canceled_whatever_it_made(vault):
    assert predicted([FILE], "canceled").outcome("https://x.y/p") == Canceled()
    assert await cog_outcome(vault, [FILE], "canceled") == Canceled()


async def test_saved_files_of_a_failed_workflow_are_the_result():
    saved, preview = ({"images": [{"filename": "a.png", "type": kind}]} for kind in ("output", "temp"))

    outcome = await comfyui_outcome({"9": saved, "10": preview})

    assert isinstance(outcome, Succeeded)
    assert (len(outcome.outputs), outcome.log) == (1, "comfyui: the last frame")
    assert isinstance(await comfyui_outcome({"10": preview}), Failed)
    assert isinstance(await comfyui_outcome({"9": saved}, "execution_interrupted"), Canceled)


async def test_every_file_of_a_workflow_is_passed_on():
    images = [{"filename": f"{number}.png", "type": "Output"} for number in range(100)]

    outcome = await comfyui_outcome({"9": {"images": images}, "10": {"result": ["3d/mesh.glb"]}})

    assert len(outcome.outputs) == 101
    assert outcome.outputs[-1].location == "filename=mesh.glb&subfolder=3d&type=output"
