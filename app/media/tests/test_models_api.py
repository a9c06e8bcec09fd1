"""Models through the API: list, search, price, estimate, retirement, and requests for what is not configured."""

from decimal import Decimal

import httpx2
import pytest

from app.core.errors import SettingsError
from app.main import create_app
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.loading import load_registry
from app.media_generator.model_card import ModelStatus, Price
from app.media_generator.registry import Registry
from tests.providers.catalogue import LONG_AGO, SOME_DAY, Shop, card, catalogue_file, request_media
from tests.support import PUBLIC_URL


async def test_process_does_not_start_with_an_invalid_catalogue(tmp_path, api_of):
    file = catalogue_file(tmp_path, "[models.")

    with pytest.raises(SettingsError, match="CATALOGUE_FILE"):
        await api_of(None, catalogue_file=file)


async def test_catalogue_file_applies_to_the_api(tmp_path, api_of):
    file = catalogue_file(tmp_path, '[models."dummy/painter"]\nprice = { amount = "0.01", per = "output" }')
    api = await api_of(None, catalogue_file=file)

    estimate = (await api.post("/media/estimate", json={"prompt": "a", "input": {"num_outputs": 3}})).json()
    kept = (await api.get("/media")).json()["items"]

    assert estimate == {
        "model": "dummy/painter",
        "amount": "0.03",
        "currency": "USD",
        "basis": "computed",
        "units": {"output": 3.0},
    }
    assert kept == []


async def test_estimate_is_null_without_a_price_and_validates_the_input(api_of):
    api = await api_of(Registry([Shop(card())]))

    estimate = (await api.post("/media/estimate", json={"prompt": "a", "model": "shop/grey"})).json()
    wrong = await api.post("/media/estimate", json={"prompt": "a", "model": "shop/grey", "input": {"colour": 1}})

    assert estimate == {"model": "shop/grey", "amount": None, "currency": None, "basis": None, "units": None}
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "input.colour")


async def test_idempotent_replay_works_after_the_model_was_retired(api_of):
    body, key = {"prompt": "a", "model": "shop/grey"}, {"Idempotency-Key": "order-17"}
    before = await api_of(Registry([Shop(card())]))
    after = await api_of(Registry([Shop(card(status=ModelStatus.RETIRED), card("new"))]))
    first = await before.post("/media/generate", json=body, headers=key)

    again = await after.post("/media/generate", json=body, headers=key)
    another = await after.post("/media/generate", json={**body, "prompt": "b"}, headers=key)

    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (another.status_code, another.json()["code"]) == (422, "model_retired")


@pytest.mark.parametrize("changes", [{"status": ModelStatus.RETIRED}, {"retired_at": LONG_AGO}])
async def test_retired_model_is_refused_with_its_successor(api_of, changes):
    api = await api_of(Registry([Shop(card(successor="shop/new", **changes), card("new"))]))

    refused = await request_media(api, "shop/grey")
    shown = (await api.get("/models/shop/grey")).json()

    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (422, "model_retired")
    assert "shop/new" in problem["detail"]
    assert problem["errors"] == [
        {"field": "model", "message": "retired", "given": "shop/grey", "allowed": ["shop/new"]}
    ]
    assert (shown["status"], shown["notice"]) == ("retired", "shop/grey is retired; use shop/new")


async def test_deprecated_model_works_with_a_notice(api_of):
    old = card(status=ModelStatus.DEPRECATED, retired_at=SOME_DAY, successor="shop/new")
    api = await api_of(Registry([Shop(old)]))

    accepted = await request_media(api, "shop/grey")
    shown = (await api.get("/models/shop/grey")).json()

    assert accepted.status_code == 202
    assert shown["notice"] == "shop/grey is deprecated, and retired from 2999-01-01; use shop/new"


async def test_alias_is_stored_as_the_full_model_name(api_of):
    api = await api_of(Registry([Shop(card(aliases=("gpt-image-1",)))]))

    assert (await request_media(api, "gpt-image-1")).json()["model"] == "shop/grey"
    assert [media["model"] for media in (await api.get("/media")).json()["items"]] == ["shop/grey"]


async def test_models_are_filtered_searched_and_paged(api_of):
    cards = [
        card("one", title="Quick Grey", output_types=("image/png",)),
        card("two", title="Slow Grey", output_types=("video/mp4",), aliases=("old-two",)),
        card("three", title="Blue", status=ModelStatus.DEPRECATED),
    ]
    api = await api_of(Registry([Shop(*cards), DummyMediaGeneratorModel()]))

    async def names(**filters):
        answer = (await api.get("/models", params=filters)).json()
        return [model["name"] for model in answer["items"]], answer["next_cursor"]

    assert await names(provider="shop") == (["shop/one", "shop/three", "shop/two"], None)
    assert await names(provider="shop", output_type="video") == (["shop/two"], None)
    assert await names(provider="shop", output_type="image/png", q="quick") == (["shop/one"], None)
    assert await names(q="OLD-two slow") == (["shop/two"], None)
    assert await names(status="deprecated") == (["shop/three"], None)
    assert await names(status="Deprecated,ACTIVE", provider="shop") == (["shop/one", "shop/three", "shop/two"], None)
    first, cursor = await names(provider="shop", limit=2)
    assert (first, await names(provider="shop", limit=2, cursor=cursor)) == (
        ["shop/one", "shop/three"],
        (["shop/two"], None),
    )
    assert (await api.get("/models", params={"cursor": "%"})).json()["code"] == "invalid_cursor"


async def test_model_shows_price_limits_and_capabilities(api_of):
    api = await api_of(Registry([Shop(card(price=Price(Decimal("0.040"), currency="EUR")))]))

    shown = (await api.get("/models/shop/grey")).json()

    assert shown["price"] == {"amount": "0.040", "per": "output", "currency": "EUR"}
    assert (shown["version"], shown["time_limit_seconds"], shown["targets"]) == ("1", 7200.0, None)
    assert shown["capabilities"] == {
        "cancel": True,
        "cancel_stops_billing": True,
        "progress": True,
        "max_outputs": 8,
        "local": False,
    }


@pytest.mark.parametrize(
    ("kind", "variables"),
    [
        ("replicate", "REPLICATE_API_TOKEN"),
        ("cog", "COG_BASE_URL"),
        ("comfyui", "COMFYUI_BASE_URL and COMFYUI_WORKFLOWS"),
        ("fal", "FAL_KEY"),
        ("openai", "OPENAI_API_KEY"),
    ],
)
async def test_unconfigured_provider_names_its_required_variables(settings, bell, kind, variables):
    app = create_app(settings, bell, load_registry())
    transport = httpx2.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url=PUBLIC_URL) as api:
        refused = await api.post("/media/generate", json={"prompt": "a cat", "model": f"{kind}/any"})

    assert refused.status_code == 422
    assert f"not configured: set {variables} and restart" in refused.json()["detail"]
