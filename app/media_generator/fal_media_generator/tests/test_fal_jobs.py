"""Jobs at fal through API and worker."""

from tests.providers.fal import PROMPT, SCHNELL, finish_request, respond_json
from tests.support import attempts_of


async def test_job_stores_the_file_in_the_bucket(product, client, working, at_aimock):
    await working(at_aimock)

    media = await client.generate(model=f"fal/{SCHNELL}", prompt=PROMPT, input={"image_size": "square"})
    done = await client.until(media)

    assert done["status"] == "COMPLETED", done
    assert [(file["media_type"], file["width"]) for file in done["files"]] == [("image/png", 64)]
    (attempt,) = await attempts_of(client, media)
    requests = await product.arrived("POST", f"/fal/{SCHNELL}")
    assert len([one for one in requests if one["headers"].get("x-fal-no-retry") == "1"]) == len(requests)
    assert attempt["external_id"]


async def test_content_refusal_after_acceptance_is_reported_as_sent(product, client, working, make, server):
    server.answers["/fal-ai/flux/schnell"] = respond_json(request_id="req-1")
    flagged = [{"loc": ["body", "prompt"], "msg": "flagged", "type": "content_policy_violation"}]
    finish_request(server, {"detail": flagged}, status=422)
    await working(make(server.url))

    media = await client.generate(model=f"fal/{SCHNELL}", prompt="something")
    done = await client.until(media)

    assert (done["status"], done["error"]["code"]) == ("ERROR", "content_refused")
    (attempt,) = await attempts_of(client, media)
    assert attempt["sent"] == "YES"
