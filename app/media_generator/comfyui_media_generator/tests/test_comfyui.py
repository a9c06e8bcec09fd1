"""ComfyUI: every rule for providers, and the states of a job at its server."""

import asyncio
import json
from datetime import UTC, datetime

import msgspec
import pytest

from app.core.database.migrations import ROOT
from app.core.errors import SettingsError
from app.core.ids import new_id
from app.media_generator.accounts import Account, ProviderSetup
from app.media_generator.comfyui_media_generator.provider import LARGEST_UPLOAD, ComfyUIMediaGeneratorModel
from app.media_generator.comfyui_media_generator.workflows import read_folder
from app.media_generator.contract.provider_contract import ProviderContract
from app.media_generator.errors import (
    AnswerLostError,
    BusyError,
    CreditError,
    GenerationFailedError,
    InputRefusedError,
    ModelGoneError,
    NotReachedError,
    OutputError,
    Sent,
    UnauthorizedError,
)
from app.media_generator.loading import ProviderConfig, load_registry
from app.media_generator.media_generator_model import (
    CancelAnswer,
    Canceled,
    Failed,
    InputFile,
    Reference,
    Running,
    Submission,
    Succeeded,
)
from fleek.testing import open_http
from tests.providers.comfyui_server import ComfyUIServer
from tests.support import eventually

SAMPLE = ROOT / "deploy" / "comfyui"


@pytest.fixture
async def server():
    async with ComfyUIServer() as running:
        yield running


@pytest.fixture
async def opened(server):
    """Creates the provider from variables, as a process does."""
    async with open_http() as http:

        def make(**variables):
            usual = {"base_url": server.url + "/", "workflows": str(SAMPLE)}
            setup = ProviderSetup(Account("comfyui", {**usual, **variables}), http)
            return ComfyUIMediaGeneratorModel.open_account(setup)

        yield make


@pytest.fixture
async def provider(opened):
    return opened()


def new_submission(provider, **given):
    model = "text-to-image"
    return Submission(new_id(), 1, model, "a lighthouse", provider.complete_input(model, given))


async def outcome_of(provider, reference):
    while isinstance(outcome := await provider.poll(reference), Running):  # noqa: ASYNC110 - the server advances with each poll
        await asyncio.sleep(0)
    return outcome


async def bytes_of(provider, output):
    return b"".join([chunk async for chunk in provider.open(output)])


class TestComfyUI(ProviderContract):
    def refused(self):
        return Submission(new_id(), 1, "text-to-image", "x", {"steps": 51})


async def test_prompt_and_inputs_are_filled_into_the_workflow(provider, server):
    await provider.submit(new_submission(provider, width=768, seed=7, negative_prompt="rain"))

    (nodes,) = server.taken
    assert nodes["6"]["inputs"] == {"text": "a lighthouse", "clip": ["4", 1]}
    assert nodes["7"]["inputs"]["text"] == "rain"
    assert nodes["5"]["inputs"] == {"width": 768, "height": 512, "batch_size": 1}
    assert (nodes["3"]["inputs"]["seed"], nodes["3"]["inputs"]["steps"]) == (7, 20)


async def test_missing_seed_is_drawn_at_random(provider):
    seeds = {provider.complete_input("text-to-image", {})["seed"] for _ in range(8)}

    assert len(seeds) == 8
    assert provider.complete_input("text-to-image", {"seed": 3})["seed"] == 3


async def test_all_images_of_a_batch_are_outputs_but_no_previews(provider):
    outcome = await outcome_of(provider, await provider.submit(new_submission(provider, num_outputs=3)))

    assert isinstance(outcome, Succeeded)
    assert len(outcome.outputs) == 3
    assert all("type=output" in output.location for output in outcome.outputs)


async def test_refusal_names_node_and_error(provider, server):
    with pytest.raises(InputRefusedError, match=r"node 3 \(KSampler\): Value bigger than max of 50: steps") as refused:
        await provider.submit(new_submission(provider, steps=99))

    assert refused.value.sent is Sent.NO
    assert server.taken == []


@pytest.mark.parametrize(
    ("fault", "error", "sent"),
    [
        ("400", InputRefusedError, Sent.NO),
        ("401", UnauthorizedError, Sent.NO),
        ("402", CreditError, Sent.NO),
        ("404", ModelGoneError, Sent.NO),
        ("413", InputRefusedError, Sent.NO),
        ("422", InputRefusedError, Sent.NO),
        ("429", BusyError, Sent.NO),
        ("503", AnswerLostError, Sent.UNKNOWN),
        ("502", AnswerLostError, Sent.UNKNOWN),
        ("drop", AnswerLostError, Sent.UNKNOWN),
    ],
)
async def test_failed_submit_maps_to_an_error_and_sent_state(provider, server, fault, error, sent):
    server.faults["/prompt"].append(fault)

    with pytest.raises(error) as failure:
        await provider.submit(new_submission(provider))

    assert type(failure.value) is error
    assert failure.value.sent is sent
    assert (failure.value.retry_after is not None) == (fault == "429")
    assert server.taken == []


async def test_refused_connection_is_not_sent(opened, unused_tcp_port):
    away = opened(base_url=f"http://127.0.0.1:{unused_tcp_port}")

    with pytest.raises(NotReachedError):
        await away.submit(new_submission(away))


@pytest.mark.parametrize("fault", ["accept and drop", "accept and hang", "accept and 500"])
@pytest.mark.parametrize("moved", [0, 1, 2], ids=["waiting", "running", "finished"])
@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
async def test_job_with_lost_answer_is_found_in_queue_and_history(opened, server, fault, moved, old):
    provider = opened(timeout_seconds="0.3" if fault == "accept and hang" else "30")
    server.old, server.paused = old, True
    server.faults["/prompt"].append(fault)
    submission = new_submission(provider)
    with pytest.raises(AnswerLostError):
        await provider.submit(submission)
    for _ in range(moved):
        server.advance()

    patient = opened()
    found = await patient.find(submission, datetime.now(UTC))
    server.paused = False

    assert found is not None
    assert old or found.external_id == str(submission.attempt_id)
    assert isinstance(await outcome_of(patient, found), Succeeded)
    assert len(server.taken) == 1


async def test_find_returns_none_for_a_job_that_was_never_accepted(provider):
    assert await provider.find(new_submission(provider), datetime.now(UTC)) is None


@pytest.mark.parametrize("path", ["/queue", "/history"])
@pytest.mark.parametrize("fault", ["500", "404", "drop", "429"])
async def test_unreachable_server_is_polled_again(provider, server, path, fault):
    server.paused = True
    reference = await provider.submit(new_submission(provider))
    server.faults[path].append(fault)

    with pytest.raises((NotReachedError, BusyError)):
        await provider.poll(reference)
    server.faults[path].append(fault)
    with pytest.raises((NotReachedError, BusyError)):
        await provider.find(new_submission(provider), datetime.now(UTC))


async def test_waiting_job_reports_its_queue_position(provider, server):
    server.paused = True
    references = [await provider.submit(new_submission(provider)) for _ in range(3)]
    server.advance()

    outcomes = [await provider.poll(reference) for reference in references]

    assert [outcome.progress for outcome in outcomes] == [None, 0.0, 0.0]
    assert [outcome.log for outcome in outcomes] == [
        "running",
        "waiting in the queue, 1 ahead",
        "waiting in the queue, 2 ahead",
    ]


async def test_failed_job_names_the_node_without_traceback(provider, server):
    server.outcome = "error"

    outcome = await outcome_of(provider, await provider.submit(new_submission(provider)))

    assert isinstance(outcome, Failed)
    assert type(outcome.error) is GenerationFailedError
    assert outcome.error.sent is Sent.YES
    assert outcome.error.message == "comfyui: node 3 (KSampler): CUDA out of memory"


async def test_workflow_without_saved_files_is_an_output_error(provider, server):
    server.outcome = "nothing"

    outcome = await outcome_of(provider, await provider.submit(new_submission(provider)))

    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, OutputError)


async def test_job_lost_by_a_server_restart_fails(provider, server):
    reference = await provider.submit(new_submission(provider))
    server.forget()

    outcome = await provider.poll(reference)

    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, GenerationFailedError)


async def test_cancel_removes_a_waiting_job_from_the_queue(provider, server):
    server.paused = True
    first, second = [await provider.submit(new_submission(provider)) for _ in range(2)]
    server.advance()

    assert await provider.cancel(second) is CancelAnswer.CANCELED
    assert server.pending == []
    assert isinstance(await provider.poll(first), Running)


async def test_cancel_interrupts_a_running_job(provider, server):
    server.paused = True
    reference = await provider.submit(new_submission(provider))
    server.advance()

    assert await provider.cancel(reference) is CancelAnswer.REQUESTED
    assert isinstance(await provider.poll(reference), Canceled)


async def test_cancel_of_a_finished_job_is_too_late(provider):
    reference = await provider.submit(new_submission(provider))
    assert isinstance(await outcome_of(provider, reference), Succeeded)

    assert await provider.cancel(reference) is CancelAnswer.TOO_LATE


async def test_missing_output_is_an_output_error(provider, server):
    outcome = await outcome_of(provider, await provider.submit(new_submission(provider)))
    server.files.clear()

    with pytest.raises(OutputError):
        await bytes_of(provider, outcome.outputs[0])


async def test_truncated_output_can_be_fetched_again(provider, server):
    outcome = await outcome_of(provider, await provider.submit(new_submission(provider)))
    server.outcome = "truncated"
    with pytest.raises(NotReachedError):
        await bytes_of(provider, outcome.outputs[0])
    server.outcome = "success"

    assert (await bytes_of(provider, outcome.outputs[0])).endswith(b"IEND\xaeB`\x82")


async def test_stored_reference_works_in_another_process(opened):
    one, other = opened(), opened()
    stored = msgspec.json.encode(await one.submit(new_submission(one)))

    outcome = await outcome_of(other, msgspec.json.decode(stored, type=Reference))

    assert isinstance(outcome, Succeeded)
    assert await bytes_of(other, outcome.outputs[0])


async def test_api_token_is_sent_with_every_call(opened, server):
    provider = opened(api_token="open sesame")

    outcome = await outcome_of(provider, await provider.submit(new_submission(provider)))
    await bytes_of(provider, outcome.outputs[0])

    assert server.authorizations == {"Bearer open sesame"}


def file_of(content, name="photo.png"):
    async def chunks():
        yield content[:10]
        yield content[10:]

    return InputFile("image/png", len(content), name, chunks)


async def test_upload_stores_an_input_file_once_by_content(provider, server):
    content = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40

    name = await provider.upload(file_of(content))

    assert name == await provider.upload(file_of(content))
    assert server.files == {("input", "fleek", name.removeprefix("fleek/")): content}
    assert name.startswith("fleek/")
    assert name.endswith(".png")


async def test_too_large_input_file_is_refused(provider, server):
    async def never():
        raise AssertionError("must not be read")
        yield b""

    with pytest.raises(InputRefusedError):
        await provider.upload(InputFile("image/png", LARGEST_UPLOAD + 1, "photo.png", never))


@pytest.mark.parametrize("fault", ["500", "drop", "413"])
async def test_failed_upload_is_not_sent(provider, server, fault):
    server.faults["/upload"].append(fault)

    with pytest.raises(NotReachedError) as failure:
        await provider.upload(file_of(b"0123456789abc"))

    assert failure.value.sent is Sent.NO


def workflow_folder(folder, sheet, workflow=None):
    (folder / "edit.toml").write_text(sheet)
    nodes = workflow or {"1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}}}
    (folder / "edit.json").write_text(json.dumps(nodes))
    return folder


def test_file_input_has_no_default(tmp_path):
    sheet = """
title = "Edit"
prompt = []
[inputs.image]
to = "1.image"
required = true
schema = { type = "string", format = "uri" }
[example]
image = "https://example.com/a.png"
"""
    (card,) = read_folder(workflow_folder(tmp_path, sheet))

    assert card.name == "edit"
    assert card.input_schema["required"] == ["image"]
    assert card.input_schema["properties"]["image"] == {"type": "string", "format": "uri"}


@pytest.mark.parametrize(
    ("sheet", "workflow", "complaint"),
    [
        ("title = 'x'\nprompt = '7.text'", None, "'7.text' names no node"),
        ("title = 'x'\nprompt = 'text'", None, "'text' names no node"),
        ("title = 'x'\nprompt = []\noutputs = ['9']", None, "no node '9'"),
        ("prompt = []", None, "title"),
        ("title = ", None, "edit.toml"),
        ("title = 'x'\nprompt = []", {"nodes": [], "links": []}, "export it"),
    ],
)
def test_invalid_workflow_is_named_with_its_error(tmp_path, sheet, workflow, complaint):
    with pytest.raises(SettingsError, match="edit") as error:
        read_folder(workflow_folder(tmp_path, sheet, workflow))

    assert complaint in error.value.detail


def test_account_is_loaded_from_its_variables_and_load_errors_are_reported(tmp_path):
    variables = {"COMFYUI_BASE_URL": "http://127.0.0.1:8188", "COMFYUI_WORKFLOWS": str(SAMPLE)}

    assert "comfyui" in load_registry(ProviderConfig(variables)).providers
    assert (
        "not a folder"
        in load_registry(ProviderConfig({**variables, "COMFYUI_WORKFLOWS": str(tmp_path / "x")})).load_errors["comfyui"]
    )
    del variables["COMFYUI_WORKFLOWS"]
    assert "COMFYUI_WORKFLOWS" in load_registry(ProviderConfig(variables)).load_errors["comfyui"]


@pytest.fixture
def account(monkeypatch, server):
    """The variables that an operator sets; read by everything that is opened afterwards."""
    monkeypatch.setenv("COMFYUI_BASE_URL", server.url)
    monkeypatch.setenv("COMFYUI_WORKFLOWS", str(SAMPLE))


async def test_job_completes_end_to_end_after_a_lost_answer(account, server, provider, client, working):
    await working(provider)
    server.faults["/prompt"].append("accept and drop")

    done = await client.until(await client.generate(model="comfyui/text-to-image", input={"num_outputs": 2}))

    assert (done["status"], len(done["files"]), done["number_of_tries"]) == ("COMPLETED", 2, 1)
    assert (await client.api.get(f"/media/content/{done['id']}")).status_code == 307
    assert len(server.taken) == 1


async def test_cancel_request_removes_the_job_from_the_server_queue(account, server, provider, client, working):
    await working(provider)
    server.paused = True
    media = await client.generate(model="comfyui/text-to-image")
    await eventually(lambda: asyncio.sleep(0, len(server.pending)), lambda waiting: waiting == 1)

    await client.api.post(f"/media/{media['id']}/cancel")

    assert (await client.until(media))["status"] == "CANCELED"
    assert server.pending == []
