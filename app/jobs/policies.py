"""The operator's settings for jobs: when a failed attempt is retried, what is accepted, and time limits."""

import random
from dataclasses import dataclass
from datetime import timedelta

from app.jobs.states import OnUnknown
from app.media_generator.errors import ProviderError, Sent
from app.media_generator.media_generator_model import MediaGeneratorModel

JITTER = 0.25
LONGEST_RETRY_AFTER = timedelta(days=1)
"""The longest wait that a provider may request; more is a mistake of the provider."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a job is attempted, and the pauses between attempts."""

    max_tries: int
    base: timedelta
    longest: timedelta

    def after(self, error: ProviderError, attempts: int, *, on_unknown: OnUnknown = OnUnknown.HOLD) -> timedelta | None:
        """The pause before the next attempt; None: there is none.

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
        return max(self.pause(attempts), min(error.retry_after or timedelta(0), LONGEST_RETRY_AFTER))

    def pause(self, attempts: int) -> timedelta:
        """Exponential back-off with jitter, so that jobs that failed together are not retried together."""
        # 2**32 pauses are longer than any limit; more would overflow.
        wanted = min(self.base * 2.0 ** min(attempts - 1, 32), self.longest)
        return wanted * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret


@dataclass(frozen=True, slots=True)
class OutputLimits:
    """What is accepted from a provider."""

    max_bytes: int
    max_pixels: int


@dataclass(frozen=True, slots=True)
class JobPolicy:
    """One object for all jobs of a process."""

    retry: RetryPolicy
    limits: OutputLimits
    reconcile: timedelta
    """How long an unknown outcome is looked up before the media's `on_unknown` decides."""
    circuit_pause: timedelta
    """How long nothing is submitted to a provider whose key or credit is bad, before one media may try."""
    late_result: timedelta
    """How long after the end of a media its purchase is still followed up."""
    silence: timedelta
    """How long a provider may take before it is given up."""
    callback_base: str | None = None
    """The URL below which providers may call back; None: they cannot."""

    def callback_base_of(self, provider: MediaGeneratorModel) -> str | None:
        """The URL below which this provider may call back; None: it does not."""
        return (provider.callback_base or self.callback_base) if provider.capabilities.webhook else None
