"""What the operator has set for the work on a media."""

from dataclasses import dataclass
from datetime import timedelta

from app.media.retry import RetryPolicy
from app.media_generator.media_generator_model import MediaGeneratorModel


@dataclass(frozen=True, slots=True)
class Limits:
    """What is accepted from a provider."""

    max_bytes: int
    max_pixels: int


@dataclass(frozen=True, slots=True)
class Rules:
    """One object for all jobs of a process."""

    retry: RetryPolicy
    limits: Limits
    reconcile: timedelta
    """How long an outcome that nobody knows is looked for before the media's policy decides."""
    gate_pause: timedelta
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
