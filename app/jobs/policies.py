"""What the operator has set for jobs: when a failed attempt is repeated, what is accepted, how long is waited."""

import random
from dataclasses import dataclass
from datetime import timedelta

from app.jobs.states import OnUnknown
from app.media_generator.errors import ProviderError, Sent
from app.media_generator.media_generator_model import MediaGeneratorModel

JITTER = 0.25
LONGEST_RETRY_AFTER = timedelta(days=1)
"""What a provider may ask us to wait; more is a mistake of it."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long."""

    max_tries: int
    base: timedelta
    longest: timedelta

    def after(self, error: ProviderError, tries: int, *, on_unknown: OnUnknown = OnUnknown.HOLD) -> timedelta | None:
        """The pause before the next try, or None if there is none.

        A try that the owner asked for after the last one is not repeated by itself.

        Args:
            error: How the last try failed; only what cannot have cost money is tried again by itself.
            tries: How many there have been, at least 1.
            on_unknown: What the owner wants where nobody can say whether it has.
        """
        again = error.retryable and error.sent is Sent.NO
        if error.sent is Sent.UNKNOWN:
            again = on_unknown is OnUnknown.RETRY
        if not again or tries >= self.max_tries:
            return None
        return max(self.pause(tries), min(error.retry_after or timedelta(0), LONGEST_RETRY_AFTER))

    def pause(self, tries: int) -> timedelta:
        """Exponential back-off with jitter, so that what failed together does not come back together."""
        # 2**32 pauses are longer than any limit; more would overflow.
        wanted = min(self.base * 2.0 ** min(tries - 1, 32), self.longest)
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
    """How long an outcome that nobody knows is looked for before the media's policy decides."""
    circuit_pause: timedelta
    """How long nothing is bought from a provider whose key or credit is bad, before one media may try."""
    late_result: timedelta
    """How long after a media is over a result that was paid is still waited for."""
    silence: timedelta
    """After which a provider that never finishes is given up."""
    callback_base: str | None = None
    """Below which providers may call back; None: nowhere."""

    def callback_base_of(self, provider: MediaGeneratorModel) -> str | None:
        """Below which this provider may call back; None: it does not."""
        return (provider.callback_base or self.callback_base) if provider.capabilities.webhook else None
