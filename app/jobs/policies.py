"""The operator's settings for jobs: what is accepted, and time limits."""

from dataclasses import dataclass
from datetime import timedelta

from app.jobs.retry_policy import RetryPolicy
from app.media_generator.media_generator_model import MediaGeneratorModel


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
    """How long after the end of a media item its purchase is still followed up."""
    silence: timedelta
    """How long a provider may take before it is given up."""
    callback_base: str | None = None
    """The URL below which providers may call back; None: they cannot."""

    def callback_base_of(self, provider: MediaGeneratorModel) -> str | None:
        """The URL below which this provider may call back; None: it does not."""
        return (provider.callback_base or self.callback_base) if provider.capabilities.webhook else None
