"""Whether a failed attempt is retried, and after which delay: exponential backoff with jitter."""

import random
from dataclasses import dataclass
from datetime import timedelta

from app.jobs.states import OnUnknown
from app.media_generator.errors import ProviderError, Sent

JITTER = 0.25
LONGEST_RETRY_AFTER = timedelta(days=1)
"""The longest wait that a provider may request; more is a mistake of the provider."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a job is attempted, and the delays between attempts."""

    max_tries: int
    base: timedelta
    longest: timedelta

    def delay_before_retry(
        self, error: ProviderError, attempts: int, *, on_unknown: OnUnknown = OnUnknown.HOLD
    ) -> timedelta | None:
        """The delay before the next attempt; None: there is none.

        An attempt that the owner requested after the last one is not retried by itself.

        Args:
            error: How the last attempt failed; only one that cannot have cost money is retried by itself.
            attempts: How many there have been, at least 1.
            on_unknown: What the owner wants where that is unknown.
        """
        again = error.retryable and error.sent is Sent.NO
        if error.sent is Sent.UNKNOWN:
            again = on_unknown is OnUnknown.RETRY
        if not again or attempts >= self.max_tries:
            return None
        return max(self.backoff(attempts), min(error.retry_after or timedelta(0), LONGEST_RETRY_AFTER))

    def backoff(self, attempts: int) -> timedelta:
        """Exponential backoff with jitter, so that jobs that failed together are not retried together."""
        # 2**32 times the base is longer than any limit; more would overflow.
        wanted = min(self.base * 2.0 ** min(attempts - 1, 32), self.longest)
        return wanted * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
