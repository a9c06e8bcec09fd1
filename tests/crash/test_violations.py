"""Whether a provider could say what became of a purchase, judged from everything that is known afterwards."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.crash.violations import BEFORE, Found, violations, why_unknown

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LISTED = "replicate/black-forest-labs/flux-schnell"


def a_media(name, *, model=LISTED, prompt="a lighthouse", code="outcome_unknown", status="ERROR", given="{}", files=()):
    row = {"id": name, "prompt": prompt, "model": model, "status": status, "code": code, "message": "", "input": given}
    over = {"has_deadline": False, "is_canceled": False, "ended_at": NOW + timedelta(seconds=5)}
    return {**row, **over, "key": name, "files": list(files)}


def an_attempt(media, *, number=1, status="UNKNOWN", sent="UNKNOWN", external_id=None, after=0.0, known=None):
    begun = NOW + timedelta(seconds=after)
    times = {"created_at": begun, "submitted_at": known, "finished_at": begun + timedelta(seconds=5)}
    names = {"id": f"{media['id']}/{number}", "media_id": media["id"], "number": number, "model": media["model"]}
    return {**names, **times, "status": status, "sent": sent, "external_id": external_id, "prompt": media["prompt"]}


def a_purchase(attempt, *, after=0.5, media="a lighthouse", name="r1", **how):
    bought_at = (NOW + timedelta(seconds=after)).timestamp()
    truth = {"id": name, "attempt_id": attempt and attempt["id"], "media": media, "sha256": f"bytes of {name}"}
    mode = {"mode": "accept_then_drop", "output": "", "callback": "", "provider": "replicate", "source": "api"}
    told = {"state": "done", "told_at": None, "tells_webhook": False}
    return {**truth, **mode, "bought_at": bought_at, **told, **how}


def test_a_purchase_that_looks_like_no_other_can_be_found():
    media = a_media("m1")
    attempt = an_attempt(media)
    found = Found([media], [attempt], [a_purchase(attempt), a_purchase(None, source="web", name="r2")])

    assert why_unknown(found, media) == ""
    assert [one.kind for one in violations(found, ["m1"])] == ["thrown away"]


def test_what_was_never_bought_and_looks_like_nothing_else_is_not_unknown():
    media = a_media("m1")
    found = Found([media], [an_attempt(media)], [a_purchase(None, media="another prompt")])

    assert [one.kind for one in violations(found, ["m1"])] == ["unknown without need"]


@pytest.mark.parametrize("bought", [True, False])
def test_of_equal_orders_that_are_both_lost_nobody_can_tell_whose_the_purchase_is(bought):
    media, other = a_media("m1"), a_media("m2")
    attempt, rival = an_attempt(media), an_attempt(other)
    found = Found([media, other], [attempt, rival], [a_purchase(attempt if bought else rival)])

    assert "equal inputs" in why_unknown(found, media)
    assert violations(found, ["m1", "m2"]) == []


def test_an_equal_order_of_which_everything_is_known_hides_nothing():
    media, other = a_media("m1"), a_media("m2", status="COMPLETED", code=None, files=["bytes of r2"])
    attempt = an_attempt(media)
    settled = an_attempt(other, status="SUCCEEDED", sent=None, external_id="r2", known=NOW + timedelta(seconds=1))
    found = Found([media, other], [attempt, settled], [a_purchase(attempt), a_purchase(settled, name="r2")])

    assert why_unknown(found, media) == ""


def test_an_equal_order_of_another_time_hides_nothing():
    media, other = a_media("m1"), a_media("m2")
    long_ago = -2 * BEFORE.total_seconds() - 60
    attempt, earlier = an_attempt(media), an_attempt(other, after=long_ago)
    found = Found([media, other], [attempt, earlier], [a_purchase(earlier, after=long_ago)])

    assert why_unknown(found, media) == ""


@pytest.mark.parametrize(("seconds", "is_hidden"), [(1, False), (4, True), (60, True)])
def test_what_became_known_after_the_last_look_was_not_known(seconds, is_hidden):
    media, other = a_media("m1"), a_media("m2", status="COMPLETED", code=None, files=["bytes of r2"])
    # Aftercare has closed the attempt long after its media had ended.
    attempt = {**an_attempt(media), "finished_at": NOW + timedelta(seconds=90)}
    known = NOW + timedelta(seconds=seconds)
    rival = an_attempt(other, status="SUCCEEDED", sent=None, external_id="r2", known=known)
    found = Found([media, other], [attempt, rival], [a_purchase(rival, name="r2")])

    assert bool(why_unknown(found, media)) == is_hidden


def test_whoever_was_called_back_after_its_media_had_ended_did_not_know():
    media = a_media("m1", model="fal/fal-ai/flux")
    attempt = {**an_attempt(media), "finished_at": NOW + timedelta(seconds=90)}
    late = a_purchase(attempt, told_at=(NOW + timedelta(seconds=30)).timestamp())

    assert "has not called back" in why_unknown(Found([media], [attempt], [late]), media)


def test_whoever_was_called_back_in_time_knew():
    media, other = a_media("m1"), a_media("m2")
    attempt = an_attempt(media)
    called_back = a_purchase(attempt, told_at=(NOW + timedelta(seconds=1)).timestamp())
    found = Found([media, other], [attempt, an_attempt(other)], [called_back])

    assert why_unknown(found, media) == ""


@pytest.mark.parametrize("bought", [True, False])
def test_a_list_that_tells_callback_addresses_tells_equal_orders_apart(bought):
    media, other = a_media("m1"), a_media("m2")
    attempt, rival = an_attempt(media), an_attempt(other)
    found = Found([media, other], [attempt, rival], [a_purchase(attempt if bought else rival, tells_webhook=True)])

    assert why_unknown(found, media) == ""


@pytest.mark.parametrize(
    ("model", "given", "can_say"),
    [
        ("sim/image", '{"findable": true}', True),
        ("sim/image", '{"findable": false}', False),
        ("blind/image", "{}", False),
    ],
)
def test_our_own_providers_say_what_their_plan_lets_them(model, given, can_say):
    media = a_media("m1", model=model, given=given)

    assert (why_unknown(Found([media], [an_attempt(media)], []), media) == "") == can_say


def test_a_purchase_after_one_that_failed_is_not_bought_twice():
    media = a_media("m1", status="COMPLETED", code=None, files=["bytes of r2"])
    first = an_attempt(media, status="FAILED", sent="YES", external_id="r1")
    second = an_attempt(media, number=2, status="SUCCEEDED", sent=None, external_id="r2")
    bought = [a_purchase(first, state="failed"), a_purchase(second, name="r2")]
    again = [a_purchase(first), a_purchase(second, name="r2")]

    assert violations(Found([media], [first, second], bought), ["m1"]) == []
    assert [one.kind for one in violations(Found([media], [first, second], again), ["m1"])] == ["bought twice"]
