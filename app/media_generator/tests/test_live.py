"""The real services, end to end: `uv run pytest -m live`, with the tokens of the services to test (billable).

Models that cost more than LIVE_COST_LIMIT US dollars (default 0.05) are skipped; one picture is requested of each.
"""

import os
from decimal import Decimal

import pytest

from app.core import config
from app.core.http_client.client import HttpClient
from app.media_generator.loading import ProviderConfig, load_registry
from app.media_generator.registry import Registry
from app.storage.raw_answers import StoredRawAnswers
from app.storage.s3 import S3Store
from tests.support import attempts_of, eventually

MODELS = {
    "replicate": "replicate/black-forest-labs/flux-schnell",
    "fal": "fal/fal-ai/flux/schnell",
    "openai": "openai/gpt-image-1-mini",
}
PATIENCE_SECONDS = 300

pytestmark = [pytest.mark.live, pytest.mark.timeout(400), pytest.mark.enable_socket]


@pytest.fixture
async def registry(base_settings):
    outgoing = HttpClient(allow_private_addresses=True)
    plan = ProviderConfig(config.variables())
    loaded = load_registry(plan, outgoing, StoredRawAnswers(S3Store(base_settings)))
    yield loaded
    await loaded.close()
    await outgoing.close()


def cost(offer):
    estimate = offer.card.price and offer.card.price.amount
    return Decimal(0) if estimate is None else estimate


@pytest.mark.parametrize("name", MODELS)
async def test_real_service_delivers_a_picture(registry, client, working, name):
    provider = registry.providers.get(name)
    if provider is None:
        reason = registry.unconfigured.get(name, lambda: registry.load_errors.get(name))()
        pytest.skip(f"no account: {reason}")
    offer = registry.find(MODELS[name])
    limit = Decimal(os.environ.get("LIVE_COST_LIMIT", "0.05"))
    if cost(offer) > limit:
        pytest.skip(f"{offer.full_name} costs more than {limit}")
    client.api._transport.app.state.runtime.registry._offers.update(Registry([provider])._offers)
    await working(provider)

    media = await client.generate(model=offer.full_name, prompt="a lighthouse at dawn, woodcut")
    done = await eventually(
        lambda: client.media(media), lambda seen: seen["completed_at"] is not None, seconds=PATIENCE_SECONDS
    )

    attempts = await attempts_of(client, media)
    assert done["status"] == "COMPLETED", (done["error"], attempts)
    assert done["files"][0]["width"] >= 256
    assert len(attempts) == 1
    print(f"{offer.full_name}: {done['cost']}")  # noqa: T201 - show the cost
