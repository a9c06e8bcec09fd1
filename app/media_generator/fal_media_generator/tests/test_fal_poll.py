"""Polling, canceling and fetching a request at fal."""

from datetime import timedelta

import msgspec
import pytest

from app.core.http_client.client import HttpClient
from app.media_generator.errors import (
    BusyError,
    ContentStoppedError,
    GenerationFailedError,
    NotReachedError,
    OutputError,
    OutputGoneError,
    Sent,
    UnreadableAnswerError,
)
from app.media_generator.fal_media_generator.results import files, progress
from app.media_generator.media_generator_model import (
    CancelAnswer,
    Canceled,
    Failed,
    Output,
    Reference,
    Running,
    Succeeded,
)
from tests.providers.fal import bytes_of, finish_request, new_submission, picture, reference_to, respond_json
from tests.providers.server import respond_with, truncated_response
from tests.support import eventually


async def test_units_are_named_as_in_the_catalogue(at_aimock):
    reference = await at_aimock.submit(new_submission())

    async def look():
        return await at_aimock.poll(reference)

    outcome = await eventually(look, lambda seen: isinstance(seen, Succeeded))

    assert outcome.units == {"megapixel": 0.79}
    assert outcome.log == "Job enqueued.\nJob started processing.\nJob completed."


async def test_waiting_request_is_canceled_at_aimock(at_aimock):
    reference = await at_aimock.submit(new_submission())

    assert await at_aimock.cancel(reference) is CancelAnswer.CANCELED
    assert isinstance(await at_aimock.poll(reference), Canceled)


async def test_waiting_and_running_requests_report_progress(provider, server):
    server.answers["/fal-ai/flux/requests/req-1/status"] = respond_json(status="IN_QUEUE", queue_position=4)
    waits = await provider.poll(reference_to())
    bars = [{"message": "loading"}, {"message": " 25%|##   | 7/28 [00:01<00:03]\r 50%|#####     | 14/28"}]
    server.answers["/fal-ai/flux/requests/req-1/status"] = respond_with(
        msgspec.json.encode({"status": "IN_PROGRESS", "logs": bars}), status=202
    )
    runs = await provider.poll(reference_to())

    assert (waits, waits.wait) == (Running(None, timedelta(seconds=3)), timedelta(seconds=3))
    assert (runs.progress, runs.wait) == (0.5, None)
    assert runs.log.startswith("loading\n")
    assert server.requests[0].path == "/fal-ai/flux/requests/req-1/status?logs=1"


@pytest.mark.parametrize("fault", ["drop", "silence", "500", "503", "page"])
async def test_unavailable_status_is_polled_again(make, server, fault):
    answers = {
        "500": respond_with(b"", status=500),
        "503": respond_with(b"", status=503),
        "page": respond_with(b"<html>"),
    }
    server.answers["/fal-ai/"] = answers.get(fault) or getattr(server, fault)

    with pytest.raises((NotReachedError, BusyError, UnreadableAnswerError)):
        await make(server.url, timeout="1").poll(reference_to())


@pytest.mark.parametrize(
    "page", [b"<html>", b"{", b'"caf\xe9"', b"[" * 100_000], ids=["page", "{", "latin-1", "nested"]
)
async def test_unreadable_result_settles_nothing(provider, server, page):
    server.answers["/fal-ai/"] = respond_with(page)
    server.answers["/fal-ai/flux/requests/req-1/status"] = respond_json(status="COMPLETED")

    with pytest.raises(UnreadableAnswerError):
        await provider.poll(reference_to())


@pytest.mark.parametrize(
    ("status", "detail", "kind"),
    [
        (422, [{"loc": ["body", "prompt"], "msg": "flagged", "type": "content_policy_violation"}], ContentStoppedError),
        (422, [{"loc": ["body", "seed"], "msg": "too large", "type": "less_than"}], GenerationFailedError),
        (422, "odd", GenerationFailedError),
        (400, "odd", GenerationFailedError),
        (500, [{"msg": "out of memory", "type": "internal_server_error"}], GenerationFailedError),
        (404, "gone", OutputGoneError),
    ],
)
async def test_failure_in_the_result_is_reported_as_sent(provider, server, status, detail, kind):
    finish_request(server, {"detail": detail}, status=status)

    outcome = await provider.poll(reference_to())

    assert isinstance(outcome, Failed)
    assert type(outcome.error) is kind
    assert outcome.error.sent is Sent.YES


async def test_failure_is_final_only_if_the_queue_or_model_reports_it(provider, server):
    finish_request(server, {}, status=504, state={"error": "timed out", "error_type": "request_timeout"})
    failed = await provider.poll(reference_to())
    finish_request(server, {}, status=504)

    assert isinstance(failed, Failed)
    assert "timed out" in failed.error.message
    with pytest.raises(NotReachedError):
        await provider.poll(reference_to())


@pytest.mark.parametrize("body", [b"{}", b'{"seed": 1}'])
async def test_result_without_files_is_left_to_the_engine_which_asks_again(provider, server, body):
    finish_request(server, {})
    server.answers["/fal-ai/flux/requests/req-1"] = respond_with(body)

    outcome = await provider.poll(reference_to())

    assert isinstance(outcome, Succeeded)
    assert outcome.outputs == ()


@pytest.mark.parametrize("body", [b'"text"', b"17", b"null", b"[]"])
async def test_answer_that_is_no_result_settles_nothing(provider, server, body):
    finish_request(server, {})
    server.answers["/fal-ai/flux/requests/req-1"] = respond_with(body)

    with pytest.raises(UnreadableAnswerError):
        await provider.poll(reference_to())


async def test_request_canceled_by_the_queue_is_canceled(provider, server):
    finish_request(
        server, {"detail": "canceled"}, status=499, state={"error": "gone", "error_type": "client_cancelled"}
    )

    assert isinstance(await provider.poll(reference_to()), Canceled)


@pytest.mark.parametrize(
    ("status", "state", "answer"),
    [
        (202, "CANCELLATION_REQUESTED", CancelAnswer.REQUESTED),
        (400, "ALREADY_COMPLETED", CancelAnswer.TOO_LATE),
        (404, "NOT_FOUND", CancelAnswer.TOO_LATE),
    ],
)
async def test_each_cancel_response_is_mapped(provider, server, status, state, answer):
    server.answers["/fal-ai/"] = respond_with(msgspec.json.encode({"status": state}), status=status)

    assert await provider.cancel(reference_to()) is answer
    assert (server.requests[0].method, server.requests[0].path) == ("PUT", "/fal-ai/flux/requests/req-1/cancel")


async def test_busy_server_makes_cancel_repeatable(provider, server):
    server.answers["/fal-ai/"] = respond_with(b"", status=503)

    with pytest.raises(BusyError):
        await provider.cancel(reference_to())


async def test_stored_reference_works_in_another_process(make, server, cdn):
    server.answers["/fal-ai/flux/schnell"] = respond_json(request_id="req-1")
    reference = await make(server.url).submit(new_submission())
    stored = msgspec.json.decode(msgspec.json.encode(reference), type=Reference)
    finish_request(server, {"images": [{"url": f"{cdn.url}/files/picture.png"}]}, x_fal_billable_units="1.5")

    other = make(server.url)
    outcome = await other.poll(stored)

    assert outcome.units == {"megapixel": 1.5}
    assert await bytes_of(other, outcome.outputs[0]) == picture()
    assert "authorization" not in cdn.requests[0].headers


@pytest.mark.parametrize("units", ["", "many", "nan", "-1", "inf"])
async def test_invalid_units_do_not_fail_the_purchase(provider, server, cdn, units):
    finish_request(server, {"images": [{"url": f"{cdn.url}/files/picture.png"}]}, x_fal_billable_units=units)

    outcome = await provider.poll(reference_to())

    assert isinstance(outcome, Succeeded)
    assert outcome.units == {}


async def test_missing_truncated_and_private_outputs_are_different_errors(make, provider, cdn):
    cdn.answers["/files/cut.png"] = truncated_response(picture()[:20], promised=500)
    careful = HttpClient(allow_private_addresses=False)
    guarded = make("https://queue.example", careful)

    with pytest.raises(OutputError):
        await bytes_of(provider, Output(f"{cdn.url}/files/gone.png"))
    with pytest.raises(NotReachedError):
        await bytes_of(provider, Output(f"{cdn.url}/files/cut.png"))
    with pytest.raises(OutputError, match="private or loopback"):
        await bytes_of(guarded, Output(f"{cdn.url}/files/picture.png"))
    await careful.close()


@pytest.mark.parametrize(
    ("result", "urls"),
    [
        ({"images": [{"url": "https://a/1"}, {"url": "https://a/2"}]}, ["https://a/1", "https://a/2"]),
        ({"image": {"url": "https://a/1"}, "mask": {"url": "https://a/1"}}, ["https://a/1"]),
        ({"video": {"url": "https://a/v"}, "seed": 1, "prompt": "see https://b/x"}, ["https://a/v"]),
        ({"data": {"layers": [[{"url": "https://a/1"}], [{"url": "https://a/2"}]]}}, ["https://a/1", "https://a/2"]),
        ({"audio_url": "https://a/s", "prompt": "https://b/x and more"}, ["https://a/s"]),
        ("https://a/1", ["https://a/1"]),
        ({"image": {"url": "data:image/png;base64,AAAA"}}, ["data:image/png;base64,AAAA"]),
        ({"images": [None, "", {"url": "/files/ü 1.png"}]}, ["https://q/files/%C3%BC%201.png"]),
        ({"images": [{"url": None, "file_data": "AAAA"}]}, ["data:;base64,AAAA"]),
        ({"image": {"url": None}}, []),
    ],
)
def test_files_are_found_in_results_of_any_shape(result, urls):
    assert files(result, "https://q/fal-ai/flux/requests/1") == urls


def test_progress_is_the_last_progress_bar_in_the_log():
    assert progress(["10%|#", "nothing", " 30%|##  \r 40%|###"]) == 0.4
    assert progress(["100% cotton", "120%|######"]) == 1.0
    assert progress([]) is None


@pytest.mark.parametrize(
    ("model", "app"),
    [
        ("fal-ai/flux-pro/v1.1", "fal-ai/flux-pro"),
        ("google/nano-banana-2.1", "google/nano-banana-2.1"),
        ("workflows/me/mine/deep", "workflows/me/mine"),
    ],
)
async def test_request_urls_use_the_app_without_its_path(provider, server, model, app):
    server.answers["/"] = respond_json(status="IN_QUEUE")

    await provider.poll(reference_to(model))

    assert server.requests[0].path.startswith(f"/{app}/requests/req-1/status")
