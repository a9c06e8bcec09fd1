"""The media API end to end, with a runner on real engines."""

import asyncio
import hashlib
import io
from uuid import UUID

import asyncpg
import httpx2
import numpy as np
import pytest
from PIL import Image

from tests.support import eventually

PAINTER = {"width": 96, "height": 64, "seed": 7}


async def test_prompt_becomes_a_picture_in_the_bucket(product):
    asked = await product.generate(prompt="a lighthouse at dawn", input=PAINTER, metadata={"order": "A-17"})

    done = await product.until(asked)

    assert done["status"] == "COMPLETED"
    assert done["metadata"] == {"order": "A-17"}
    assert (done["progress"], done["number_of_tries"], done["error"], done["next_run"]) == (1.0, 1, None, None)
    (file,) = done["files"]
    answer = await product.api.get(file["url"])
    assert answer.status_code == 307
    async with httpx2.AsyncClient(trust_env=False) as outside:
        fetched = await outside.get(answer.headers["location"])
    assert fetched.headers["content-type"] == file["media_type"] == "image/png"
    assert hashlib.sha256(fetched.content).hexdigest() == file["sha256"]
    assert len(fetched.content) == file["bytes"]
    assert Image.open(io.BytesIO(fetched.content)).size == (file["width"], file["height"]) == (96, 64)


async def test_accepted_request_says_where_to_poll(client):
    answer = await client.api.post("/media/generate", json={"prompt": "x"})

    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"/media/status/{body['job_id']}"
    assert (body["status"], body["model"], body["files"]) == ("IN_QUEUE", "dummy/painter", [])
    assert body["input"] | {"seed": 0} == {
        "width": 1024,
        "height": 1024,
        "num_outputs": 1,
        "output_format": "png",
        "seed": 0,
    }
    assert (await client.api.get(answer.headers["location"])).json() == {**body, "queue_position": 0}
    assert UUID(body["id"]).version == 7


async def test_request_wakes_the_workers_of_its_queue(client, bell):
    await client.generate()
    await client.faulty()

    assert bell.rings == ["local", "network"]


async def test_outputs_of_one_media_are_different_files(product):
    done = await product.until(await product.generate(input={**PAINTER, "num_outputs": 3, "output_format": "webp"}))

    assert [file["index"] for file in done["files"]] == [0, 1, 2]
    assert len({file["sha256"] for file in done["files"]}) == 3
    assert {file["media_type"] for file in done["files"]} == {"image/webp"}


async def test_same_prompt_and_seed_give_the_same_pixels(product):
    first, second = await asyncio.gather(*(product.generate(input=PAINTER) for _ in range(2)))

    files = [(await product.until(media))["files"][0] for media in (first, second)]

    assert files[0]["sha256"] == files[1]["sha256"]
    assert files[0]["url"] != files[1]["url"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "  "}, "prompt"),
        ({"prompt": "a\x00b"}, "prompt"),
        ({"prompt": "x", "colour": 1}, "colour"),
        ({"prompt": "x", "model": "dummy/panter"}, "model"),
        ({"prompt": "x", "input": {"width": 63}}, "input.width"),
        ({"prompt": "x", "input": {"width": "wide"}}, "input.width"),
        ({"prompt": "x", "input": {"style": "cubism"}}, "input.style"),
        ({"prompt": "x", "input": {"wdth": 100}}, "input.wdth"),
        ({"prompt": "x", "input": {"num_outputs": 9}}, "input.num_outputs"),
        ({"prompt": "x", "metadata": {"a": "x" * 5000}}, "metadata"),
        ({"prompt": "x", "metadata": {"a": "\x00"}}, "metadata"),
        ({"prompt": "x", "metadata": []}, "metadata"),
    ],
)
async def test_invalid_field_is_named_and_nothing_is_stored(client, body, field):
    answer = await client.api.post("/media/generate", json=body)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["errors"][0]["field"] == field
    assert field in problem["detail"]
    assert (await client.api.get("/media")).json()["items"] == []


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "prompt: is required"),
        ({"prompt": "x", "width": 512}, "width: there is no such field; a model's own parameters belong in 'input'"),
        ({"prompt": "x", "modle": "dummy/painter"}, "modle: there is no such field; did you mean 'model'?"),
    ],
)
async def test_missing_or_unknown_field_is_explained(client, body, detail):
    problem = (await client.api.post("/media/generate", json=body)).json()

    assert problem["detail"] == detail
    (wrong,) = problem["errors"]
    assert wrong["given"] == body.get(wrong["field"])
    assert (wrong["allowed"] or ["prompt", "model", "input"])[:3] == ["prompt", "model", "input"]


async def test_unknown_model_is_refused_with_similar_names(client):
    answer = await client.api.post("/media/generate", json={"prompt": "x", "model": "dumy/paintr"})

    assert answer.json()["code"] == "unknown_model"
    assert answer.json()["errors"][0]["allowed"][0] == "dummy/painter"


async def test_invalid_parameter_says_what_is_allowed(client):
    answer = await client.api.post("/media/generate", json={"prompt": "x", "input": {"width": 5000}})

    assert answer.json()["errors"] == [
        {
            "field": "input.width",
            "message": "5000 is greater than the maximum of 2048",
            "given": 5000,
            "allowed": {"type": "integer", "minimum": 64, "maximum": 2048},
        }
    ]


async def test_body_that_is_not_json_says_which_header_to_send(client):
    answer = await client.api.post("/media/generate", content="prompt=x")

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert "Content-Type: application/json" in answer.json()["detail"]


async def test_escaped_backslash_in_metadata_is_not_taken_for_nul(client):
    asked = await client.generate(metadata={"path": "C:\\u0000\\new"})

    assert (await client.media(asked))["metadata"] == {"path": "C:\\u0000\\new"}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/media/status/{}", "job_not_found"),
        ("/media/jobs/{}", "job_not_found"),
        ("/media/{}", "media_not_found"),
        ("/media/content/{}", "media_not_found"),
        ("/media/{}/logs", "media_not_found"),
        ("/media/{}/history", "media_not_found"),
        ("/media/{}/attempts", "media_not_found"),
        ("/models/dummy/{}", "model_not_found"),
        ("/nowhere/{}", "not_found"),
    ],
)
async def test_missing_resource_has_its_own_error_code(client, path, code):
    answer = await client.api.get(path.format("01a2042b-7bbc-7b76-8ad7-006105ba42a4"))

    assert (answer.status_code, answer.json()["code"]) == (404, code)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_wrong_method_is_answered_as_a_problem(client):
    answer = await client.api.delete("/media/generate")

    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


async def test_unchanged_job_status_is_answered_304(product):
    asked = await product.faulty(hang=True)
    await product.until(asked, "PROCESSING")
    await asyncio.sleep(0.1)
    path = f"/media/jobs/{asked['job_id']}"
    first = await product.api.get(path)

    again = await product.api.get(path, headers={"If-None-Match": first.headers["etag"]})

    assert first.json()["status"] == "PROCESSING"
    assert (again.status_code, again.content) == (304, b"")


async def test_finished_media_is_the_same_at_every_url(product):
    done = await product.until(await product.faulty())

    by_job = await product.api.get(f"/media/status/{done['job_id']}")
    unchanged = await product.api.get(
        f"/media/status/{done['job_id']}", headers={"If-None-Match": by_job.headers["etag"]}
    )

    assert by_job.json() == done
    assert unchanged.status_code == 304


async def test_content_of_an_unfinished_media_is_a_conflict_with_its_status(client):
    asked = await client.generate()

    answer = await client.api.get(f"/media/content/{asked['id']}")

    assert answer.status_code == 409
    assert answer.json()["code"] == "media_not_completed"
    assert answer.json()["media_status"] == "IN_QUEUE"


async def test_content_as_json_says_when_the_url_expires(product):
    done = await product.until(await product.faulty())

    answer = await product.api.get(done["files"][0]["url"], headers={"Accept": "application/json"})

    assert answer.status_code == 200
    async with httpx2.AsyncClient(trust_env=False) as outside:
        assert (await outside.get(answer.json()["url"])).content[:4] == b"\x89PNG"
    assert answer.json()["expires_at"].endswith("Z")


async def test_file_index_out_of_range_is_not_found(product):
    done = await product.until(await product.faulty())

    answer = await product.api.get(f"/media/content/{done['id']}", params={"index": 1})

    assert (answer.status_code, answer.json()["code"]) == (404, "file_not_found")


async def test_list_pages_are_newest_first_and_complete(client):
    asked = [(await client.generate(prompt=f"number {number}"))["id"] for number in range(7)]

    seen, cursor = [], None
    while True:
        page = (await client.api.get("/media", params={"limit": 3} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert sorted(seen, reverse=True) == seen
    assert set(seen) == set(asked)
    assert len(seen) == 7


async def test_list_is_filtered_by_status(product):
    done = await product.until(await product.faulty())
    failed = await product.until(await product.faulty(fail_times=1, fail_with="credit"))

    completed = (await product.api.get("/media", params={"status": "COMPLETED"})).json()["items"]
    wrong = (await product.api.get("/media", params={"status": "ERROR"})).json()["items"]

    assert [item["id"] for item in completed] == [done["id"]]
    assert [item["id"] for item in wrong] == [failed["id"]]
    assert completed[0]["files"][0]["url"] == f"http://api.test/media/content/{done['id']}?index=0"


@pytest.mark.parametrize(
    "query", ["status=COMPLETED,error", "status=completed&status=Error", "status=error, completed"]
)
async def test_status_filter_takes_several_in_any_case(product, query):
    done = await product.until(await product.faulty())
    failed = await product.until(await product.faulty(fail_times=1, fail_with="credit"))
    waiting = await product.until(await product.faulty(delay=30), "PROCESSING")

    seen, cursor = [], ""
    while cursor is not None:
        page = (await product.api.get(f"/media?{query}&limit=1" + (f"&cursor={cursor}" if cursor else ""))).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]

    assert seen == [failed["id"], done["id"]]
    everything = (await product.api.get("/media?status=in_queue,processing,completed,error,canceled")).json()["items"]
    assert [item["id"] for item in everything] == [waiting["id"], failed["id"], done["id"]]


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ("statsu=ERROR", "statsu", "there is no such parameter; did you mean 'status'?"),
        ("limit=2&limit=3", "limit", "is given several times; give it once"),
        ("status=ERROR,COMPLETE", "status", "did you mean COMPLETED?"),
        ("status=", "status", "must be one of IN_QUEUE, PROCESSING"),
        ("=1", "", "there is no such parameter"),
        (f"{'x' * 5000}=1", "x" * 64 + "…", "there is no such parameter"),
    ],
)
async def test_what_a_query_means_is_never_guessed(client, query, field, words):
    answer = await client.api.get(f"/media?{query}")

    (wrong,) = answer.json()["errors"]
    assert (answer.status_code, wrong["field"]) == (422, field)
    assert words in wrong["message"]
    assert len(answer.text) < 2000


@pytest.mark.parametrize("query", ["cursor=nonsense", "limit=0", "limit=101", "limit=many", "status=DONE"])
async def test_invalid_query_parameter_is_named(client, query):
    answer = await client.api.get(f"/media?{query}")

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == query.partition("=")[0]


async def test_every_listed_model_has_a_working_example(product):
    models = (await product.api.get("/models")).json()["items"]

    assert [model["name"] for model in models] == ["dummy/faulty", "dummy/painter", "local/paint-styles"]
    for model in models:
        assert (await product.api.get(f"/models/{model['name']}")).json() == model
        answer = await product.api.post("/media/generate", json=model["example"])
        assert answer.status_code == 202
        assert (await product.until(answer.json()))["status"] == "COMPLETED"


async def test_painter_makes_what_its_example_requests(product):
    example = (await product.api.get("/models/dummy/painter")).json()["example"]
    done = await product.until((await product.api.post("/media/generate", json=example)).json())

    signed = (await product.api.get(done["files"][0]["url"])).headers["location"]
    async with httpx2.AsyncClient(trust_env=False) as outside:
        picture = Image.open(io.BytesIO((await outside.get(signed)).content))

    assert picture.format == "WEBP"
    assert np.asarray(picture).std() > 5


async def test_request_id_of_the_caller_is_returned(client):
    answer = await client.api.get("/models", headers={"X-Request-ID": "order-A-17.3"})
    strange = await client.api.get("/models", headers={"X-Request-ID": "a b\tc"})

    assert answer.headers["x-request-id"] == "order-A-17.3"
    assert len(strange.headers["x-request-id"]) == 32


async def test_log_lists_what_happened_to_a_media(product):
    done = await product.until(await product.faulty(fail_times=1, fail_with="busy"))

    async def events():
        logged = (await product.api.get(f"/media/{done['id']}/logs")).json()
        return [(item["event"], item["attempt"]) for item in logged["items"]]

    story = await eventually(events, lambda seen: len(seen) >= 6)
    assert story == [
        ("media_claimed", None),
        ("attempt_failed", 1),
        ("media_claimed", None),
        ("attempt_submitted", 2),
        ("output_stored", 2),
        ("media_completed", 2),
    ]


async def test_large_body_is_refused(client):
    answer = await client.api.post("/media/generate", json={"prompt": "x", "metadata": {"a": "x" * 2_000_000}})

    assert (answer.status_code, answer.json()["code"]) == (413, "content_too_large")


async def test_history_and_attempts_explain_a_media(product):
    done = await product.until(await product.faulty(fail_times=1, fail_with="busy"))

    history = (await product.api.get(f"/media/{done['id']}/history")).json()
    attempts = (await product.api.get(f"/media/{done['id']}/attempts")).json()["items"]

    assert [(item["event"], item["status"]) for item in history["items"]] == [
        ("requested", "IN_QUEUE"),
        ("claimed", "PROCESSING"),
        ("retry_scheduled", "IN_QUEUE"),
        ("claimed", "PROCESSING"),
        ("completed", "COMPLETED"),
    ]
    assert history["items"][2]["detail"] == {
        "code": "provider_busy",
        "message": "simulated failure, as the input requests",
    }
    assert [(item["number"], item["status"], item["sent"]) for item in attempts] == [
        (1, "FAILED", "NO"),
        (2, "SUCCEEDED", None),
    ]
    assert attempts[1]["external_id"].startswith("dummy-")


async def test_history_of_a_media_is_paged(product):
    done = await product.until(await product.faulty())
    path = f"/media/{done['id']}/history"

    first = (await product.api.get(path, params={"limit": 2})).json()
    rest = (await product.api.get(path, params={"limit": 2, "cursor": first["next_cursor"]})).json()

    assert [item["event"] for item in first["items"] + rest["items"]] == ["requested", "claimed", "completed"]
    assert rest["next_cursor"] is None


async def test_failed_media_can_be_retried_by_its_owner(product):
    failed = await product.until(await product.faulty(fail_times=1, fail_with="generation_failed"))
    assert failed["status"] == "ERROR"

    answer = await product.api.post(f"/media/{failed['id']}/retry")
    done = await product.until(failed, "COMPLETED")

    assert answer.status_code == 202
    assert answer.json()["completed_at"] is None
    assert (done["number_of_tries"], done["error"]) == (2, None)


async def test_unknown_outcome_is_submitted_again_only_by_owner_retry(product):
    held = await product.until(await product.faulty(lose_answer="unknown"))
    assert held["error"]["code"] == "outcome_unknown"

    await product.api.post(f"/media/{held['id']}/retry")
    await product.until(held, "COMPLETED")

    attempts = (await product.api.get(f"/media/{held['id']}/attempts")).json()["items"]
    assert [attempt["status"] for attempt in attempts] == ["UNKNOWN", "SUCCEEDED"]


async def test_media_in_progress_or_completed_cannot_be_retried(product):
    waiting = await product.faulty(hang=True)
    done = await product.until(await product.faulty())

    for media in (waiting, done):
        answer = await product.api.post(f"/media/{media['id']}/retry")
        assert (answer.status_code, answer.json()["code"]) == (409, "media_not_retryable")
    gone = await product.api.post("/media/01a2042b-7bbc-7b76-8ad7-006105ba42a4/retry")
    assert gone.status_code == 404


async def test_of_concurrent_retries_one_is_accepted(product, db):
    failed = await product.until(await product.faulty(fail_times=1, fail_with="credit"))

    answers = await asyncio.gather(*(product.api.post(f"/media/{failed['id']}/retry") for _ in range(6)))
    done = await product.until(failed, "COMPLETED")

    assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409, 409, 409]
    assert done["number_of_tries"] == 2


@pytest.mark.parametrize("media_type", ["text/plain; x=json", "application/jsonp", "text/json", ""])
async def test_content_types_that_need_no_cors_preflight_are_refused(client, media_type):
    headers = {"Content-Type": media_type}
    answer = await client.api.post("/media/generate", content=b'{"prompt": "x"}', headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("media_type", ["APPLICATION/JSON", "application/json; charset=utf-8", "application/ld+json"])
async def test_every_json_media_type_is_accepted(client, media_type):
    headers = {"Content-Type": media_type}

    assert (await client.api.post("/media/generate", content=b'{"prompt": "x"}', headers=headers)).status_code == 202


async def test_integer_may_be_written_with_a_decimal_point(product):
    done = await product.until(await product.generate(input={"width": 64.0, "height": 64, "seed": 1.0}))

    assert done["status"] == "COMPLETED"
    assert done["input"]["width"] == 64


@pytest.mark.parametrize("unknown", ["input", "top"])
async def test_error_response_to_many_errors_stays_short(client, unknown):
    nonsense = {f"key-{number}": "x" * 500 for number in range(1500)}
    body = {"prompt": "x", "input": nonsense} if unknown == "input" else {"prompt": "x", **nonsense}

    answer = await client.api.post("/media/generate", json=body)

    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 20
    assert len(answer.content) < 20_000


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": 1e400}', '{"a": [-Infinity]}'])
async def test_numbers_outside_json_are_refused(client, text):
    body = f'{{"prompt": "x", "metadata": {text}}}'
    answer = await client.api.post("/media/generate", content=body, headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "metadata")


async def test_if_none_match_accepts_a_star(client):
    asked = await client.generate()

    answer = await client.api.get(f"/media/{asked['id']}", headers={"If-None-Match": "*"})

    assert answer.status_code == 304


async def test_reads_are_answered_after_the_database_has_ended_all_connections(client, settings, base_settings):
    asked = await client.generate()
    name = settings.database_dsn.rpartition("/")[2]
    paths = ["/media", f"/media/{asked['id']}", f"/media/{asked['id']}/history", f"/media/{asked['id']}/attempts"]
    # It returns once they have ended, not while they still answer.
    end_all = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1"
    killer = await asyncpg.connect(base_settings.database_dsn)
    try:
        for turn in range(6):
            await asyncio.gather(*(client.api.get("/media") for _ in range(8)))
            await killer.execute(end_all, name)
            answers = await asyncio.gather(*(client.api.get(path) for path in paths * 2))
            assert [answer.status_code for answer in answers] == [200] * 8, turn
    finally:
        await killer.close()
