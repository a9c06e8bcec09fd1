"""A request for a model that is not available says what to do."""

import pytest

from app.media.errors import UnknownModelInRequestError
from app.media.intake.validation import find_model
from app.media_generator import loading


async def test_model_of_an_unconfigured_provider_names_the_setting(api):
    body = {"prompt": "x", "model": "replicate/black-forest-labs/flux-schnell"}

    answer = await api.post("/media/generate", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_model")
    assert "set REPLICATE_API_TOKEN and restart" in answer.json()["detail"]


async def test_unknown_model_url_suggests_similar_names(api):
    answer = await api.get("/models/dummy/panter")

    assert answer.json()["detail"].startswith("there is no model 'dummy/panter'; did you mean dummy/painter")


def test_unknown_model_without_similar_names_does_not_list_every_model():
    registry = loading.load_registry(loading.ProviderConfig({"FAL_KEY": "x"}))

    with pytest.raises(UnknownModelInRequestError, match="GET /models") as refused:
        find_model(registry, "xyz")

    assert "fal/" not in refused.value.detail


def test_model_of_a_provider_that_failed_to_load_points_to_the_reason():
    registry = loading.load_registry(loading.ProviderConfig({"COG_API_KEY": "x"}))

    with pytest.raises(UnknownModelInRequestError, match="/tools/ready"):
        find_model(registry, "cog/model")

    assert "COG_BASE_URL" in registry.load_errors["cog"]
