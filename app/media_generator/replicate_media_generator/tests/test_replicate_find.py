"""The look-up of a lost prediction: "there is none" needs proof, because the engine then buys again."""

import copy
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.ids import new_id
from app.media_generator.accounts import Account, ProviderSetup
from app.media_generator.adapter_kit.lenient_json import parse, read_value
from app.media_generator.catalogue import Catalogue
from app.media_generator.contract.mutations import json_values, mutated, positions_of, written
from app.media_generator.errors import AnswerLostError, UnreadableAnswerError
from app.media_generator.media_generator_model import Candidates, Submission
from app.media_generator.replicate_media_generator.lookup import SubmittedPrediction
from app.media_generator.replicate_media_generator.provider import ReplicateMediaGeneratorModel
from app.media_generator.replicate_media_generator.wire import Prediction
from fleek.testing import open_http
from tests.providers.server import Server, respond_with

NOW = datetime.now(UTC)
MODEL = "black/lighthouse"
INPUT = {"prompt": "a lighthouse at night", "seed": 7, "sizes": [64, 32], "more": {"steps": 20, "fast": True}}
ATTEMPT = new_id()
ENTRY = {
    "id": "p1",
    "status": "succeeded",
    "model": MODEL,
    "version": "hidden",
    "input": INPUT,
    "created_at": NOW.isoformat(),
    "completed_at": NOW.isoformat(),
    "source": "api",
    "webhook": None,
    "data_removed": False,
}
SUBMITTED = SubmittedPrediction(
    ATTEMPT, MODEL, None, INPUT, {}, earliest=NOW - timedelta(minutes=5), latest=NOW + timedelta(minutes=5)
)
LOST = (None, "", "***", "\u2026", [], {}, [None], {"url": None}, True, "null", "[REDACTED]", "hidden")
"""What stands where a value was hidden."""


def found_in(entry):
    listed = read_value(parse(written(entry)), Prediction)
    return SUBMITTED.find([listed])


def is_found(entry):
    found = found_in(entry)
    return found is not None and (not isinstance(found, Candidates) or bool(found.alike or found.doubtful))


def may_prove(position, new):
    """Whether a new value at this position may prove that the prediction is another one."""
    if not position or position[0] == "id":
        return True
    texts = {"model", "created_at", "completed_at", "webhook", "source"}
    if position[0] in texts:
        return isinstance(new, str)
    if position == ("input",):
        return isinstance(new, dict) and bool(new)
    if position[0] != "input":
        return False
    return isinstance(new, int | float | str | list | dict) and not isinstance(new, bool) and new not in ("", [], {})


@pytest.mark.parametrize("new", LOST, ids=repr)
def test_hidden_values_never_prove_that_there_is_none(new):
    for position in positions_of(ENTRY)[1:]:
        if position != ("id",):
            assert is_found(mutated(ENTRY, position, new)), position


@given(st.sampled_from(positions_of(ENTRY)[1:]), json_values())
def test_odd_values_never_prove_that_there_is_none(position, new):
    if not may_prove(position, new):
        assert is_found(mutated(ENTRY, position, new))


@pytest.mark.parametrize(
    "changes",
    [
        *({"model": name} for name in (MODEL.upper(), f"https://replicate.com/{MODEL}", f"{MODEL}:latest", {"a": 1})),
        *({"input": INPUT | {"seed": seed}} for seed in ("7", "7.0", 7.0, float("nan"), None)),
        *(
            {"input": INPUT | {"prompt": text}}
            for text in (
                "A  lighthouse at night \n",
                "a ligh\u2026",
                "a lighth",
                "a lig...ght",
                "a lighthouse&#32;at night",
            )
        ),
        *({"created_at": at} for at in ("0001-01-01T00:00:00Z", "soon", 1700000000, "2099-01-01T00:00:00Z", None)),
        *({"completed_at": at} for at in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59+14:00", "")),
        *({"webhook": url} for url in ("https://fleek.example/***", {}, "", "https://fleek.example/media/callbacks/")),
    ],
    ids=str,
)
def test_what_is_written_otherwise_may_be_it(changes):
    assert is_found(ENTRY | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "black/cat"},
        {"created_at": (NOW - timedelta(hours=1)).isoformat()},
        {"completed_at": (NOW - timedelta(hours=1)).isoformat()},
        {"input": INPUT | {"seed": 8}},
        {"input": INPUT | {"seed": "8"}},
        {"input": INPUT | {"prompt": "a cat"}},
        {"input": INPUT | {"sizes": [64, 33]}},
        {"webhook": f"https://fleek.example/media/callbacks/replicate/{UUID(int=7)}/00"},
        {"source": "web"},
    ],
)
def test_what_is_provably_another_one_is_left_out(changes):
    assert found_in(ENTRY | changes) is None


def test_what_cannot_be_compared_is_not_adopted():
    for changes in ({"input": None}, {"model": None}, {"created_at": None}, {"webhook": "***"}, {"status": "odd"}):
        assert found_in(ENTRY | changes).alike == ()
    assert found_in(copy.deepcopy(ENTRY)).doubtful == ()


@pytest.mark.parametrize(
    ("page", "status"),
    [
        *(({"results": [], "next": odd}, 200) for odd in (False, "", [], {}, 0, True)),
        ({"results": []}, 200),
        ({"results": [], "next": None, "error": "timeout"}, 200),
        ({"results": [], "next": None, "detail": "timeout"}, 200),
        ({"results": {}, "next": None}, 200),
        ({"results": [None], "next": None}, 200),
        ({"results": [], "next": None}, 206),
    ],
    ids=str,
)
async def test_list_that_is_not_clearly_complete_proves_nothing(page, status):
    async with Server() as server, open_http() as http:
        server.answers["/v1/predictions"] = respond_with(written(page), status=status)
        cards = Catalogue().models("replicate", "replicate")
        account = Account("replicate", {"api_token": "t", "base_url": f"{server.url}/v1"})
        provider = ReplicateMediaGeneratorModel.open_account(ProviderSetup(account, http, cards))

        with pytest.raises((UnreadableAnswerError, AnswerLostError)):
            await provider.find(Submission(new_id(), 1, cards[0].name, "x", {}), NOW)
