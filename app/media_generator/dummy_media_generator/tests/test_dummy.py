"""The provider `dummy` keeps every rule for providers."""

import pytest

from app.core.ids import new_id
from app.media_generator.dummy_media_generator.orders import STYLES
from app.media_generator.dummy_media_generator.painters import STYLE_BOOK
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from fleek.providers import Submission
from fleek.testing import ProviderContract, Trouble


class TestDummy(ProviderContract):
    @pytest.fixture
    async def provider(self):
        provider = DummyMediaGeneratorModel()
        yield provider
        await provider.close()

    def example(self, card):
        return {"width": 64, "height": 64, "seed": 1} if card.name == "painter" else {}

    async def troubled(self, provider, trouble):
        plans = {
            Trouble.NOT_REACHED: {"fail_with": "unreachable"},
            Trouble.BUSY: {"fail_with": "busy", "retry_after": 3},
            Trouble.INPUT_REFUSED: {"fail_with": "input_refused"},
            Trouble.UNAUTHORIZED: {"fail_with": "unauthorized"},
            Trouble.NO_CREDIT: {"fail_with": "credit"},
            Trouble.MODEL_GONE: {"fail_with": "model_gone"},
            Trouble.ACCEPTED_THEN_DROPPED: {"lose_answer": "taken", "fail_times": 0},
            Trouble.FAILED_LATER: {"fail_with": "generation_failed"},
        }
        plan = plans.get(trouble)
        return None if plan is None else Submission(new_id(), 1, "faulty", "x", {"fail_times": 1, **plan})

    def refused(self):
        return Submission(new_id(), 1, "faulty", "x", {"fail_times": 1, "fail_with": "credit"})


def test_style_names_match_the_painters():
    assert tuple(STYLE_BOOK) == STYLES


def test_missing_seed_is_drawn_at_random():
    dummy = DummyMediaGeneratorModel()

    seeds = {dummy.complete_input("painter", {})["seed"] for _ in range(5)}

    assert len(seeds) == 5
    assert dummy.complete_input("painter", {"seed": 3})["seed"] == 3
