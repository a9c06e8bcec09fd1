"""A model that the provider no longer has is paused instead of failing job after job."""

from app.jobs.scheduling import model_pauses, pauses
from app.media_generator.registry import Registry
from tests.providers.catalogue import Shop, card, request_media
from tests.support import eventually


def ignore_batch(_moved):
    """For a resume: how many media a batch moved."""


async def test_gone_model_is_paused_after_one_failed_job(api_of, working, db):
    shop = Shop(card(), card("other"))
    shop.gone = frozenset({"grey"})
    api = await api_of(Registry([shop]))
    requested = [(await request_media(api, "shop/grey")).json() for _ in range(5)]
    await working(shop)

    async def read_all():
        return [(await api.get(f"/media/{media['id']}")).json() for media in requested]

    def all_failed_or_waiting(seen):
        return all(one["status"] == "ERROR" or one["waiting_for"] for one in seen)

    seen = await eventually(read_all, all_failed_or_waiting)
    failed = [one for one in seen if one["status"] == "ERROR"]
    waiting = [one for one in seen if one["status"] == "IN_QUEUE"]
    refused = await eventually(lambda: request_media(api, "shop/grey"), lambda answer: answer.status_code == 422)
    other = await request_media(api, "shop/other")
    ready = (await api.get("/tools/ready")).json()
    metrics = (await api.get("/tools/metrics")).text

    assert [one["error"]["code"] for one in failed] == ["model_gone"]
    assert len(waiting) == 4
    assert {one["waiting_for"]["code"] for one in waiting} == {"model_gone"}
    assert refused.json()["code"] == "model_gone"
    assert refused.json()["errors"][0]["allowed"]
    assert other.status_code == 202
    assert any("shop/grey is gone" in check["detail"] for check in ready["checks"] if not check["ok"]), ready
    assert 'fleek_model_paused{model="shop/grey",code="model_gone"} 1' in metrics

    shop.gone = frozenset()
    assert await pauses.resume(db, "shop/grey", ignore_batch)

    done = await eventually(read_all, lambda seen: all(one["status"] in {"COMPLETED", "ERROR"} for one in seen))
    assert sorted(one["status"] for one in done) == ["COMPLETED"] * 4 + ["ERROR"]


async def test_operator_pause_is_not_overwritten_by_model_gone(db):
    await model_pauses.pause(db, "shop/grey", "by hand")

    assert not await model_pauses.pause_gone(db, "shop/grey", "404")

    assert [(row.code, row.message) for row in await model_pauses.paused(db)] == [("paused", "by hand")]
