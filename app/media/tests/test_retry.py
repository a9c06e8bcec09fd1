"""When a failed try is followed by another."""

from datetime import timedelta

import pytest

from app.jobs.policies import RetryPolicy
from app.media_generator.errors import AnswerLostError, BusyError, CreditError, GenerationFailedError, NotReachedError

POLICY = RetryPolicy(max_tries=4, base=timedelta(seconds=2), longest=timedelta(seconds=60))


@pytest.mark.parametrize("error", [AnswerLostError, CreditError, GenerationFailedError])
def test_what_may_have_cost_money_or_would_fail_again_is_not_repeated(error):
    assert POLICY.after(error("x"), 1) is None


def test_pauses_double_give_or_take_a_quarter():
    for tries, seconds in ((1, 2), (2, 4), (3, 8)):
        pauses = [POLICY.after(NotReachedError("x"), tries).total_seconds() for _ in range(200)]
        assert seconds * 0.75 <= min(pauses) < max(pauses) <= seconds * 1.25
        assert max(pauses) - min(pauses) > seconds * 0.2, "no jitter"


def test_the_last_try_is_the_last():
    assert POLICY.after(NotReachedError("x"), 3) is not None
    assert POLICY.after(NotReachedError("x"), 4) is None


def test_no_pause_is_longer_than_the_longest_however_many_tries():
    assert POLICY.pause(10_000).total_seconds() <= 60 * 1.25


def test_a_providers_own_wish_is_granted():
    assert POLICY.after(BusyError("x", retry_after=timedelta(minutes=10)), 1) == timedelta(minutes=10)
