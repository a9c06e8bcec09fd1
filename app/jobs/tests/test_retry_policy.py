"""When a failed attempt is followed by another."""

from datetime import timedelta

import pytest

from app.jobs.retry_policy import RetryPolicy
from app.media_generator.errors import AnswerLostError, BusyError, CreditError, GenerationFailedError, NotReachedError

POLICY = RetryPolicy(max_tries=4, base=timedelta(seconds=2), longest=timedelta(seconds=60))


@pytest.mark.parametrize("error", [AnswerLostError, CreditError, GenerationFailedError])
def test_error_that_may_have_cost_money_or_would_recur_is_not_retried(error):
    assert POLICY.delay_before_retry(error("x"), 1) is None


def test_pauses_double_with_a_quarter_of_jitter():
    for attempts, seconds in ((1, 2), (2, 4), (3, 8)):
        pauses = [POLICY.delay_before_retry(NotReachedError("x"), attempts).total_seconds() for _ in range(200)]
        assert seconds * 0.75 <= min(pauses) < max(pauses) <= seconds * 1.25
        assert max(pauses) - min(pauses) > seconds * 0.2, "no jitter"


def test_last_attempt_is_not_followed_by_another():
    assert POLICY.delay_before_retry(NotReachedError("x"), 3) is not None
    assert POLICY.delay_before_retry(NotReachedError("x"), 4) is None


def test_pause_is_limited_however_many_attempts():
    assert POLICY.backoff(10_000).total_seconds() <= 60 * 1.25


def test_retry_after_of_the_provider_is_respected():
    assert POLICY.delay_before_retry(BusyError("x", retry_after=timedelta(minutes=10)), 1) == timedelta(minutes=10)
