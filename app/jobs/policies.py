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
    copies: int = 24
    """Outputs that one process copies at the same time from providers over the network; as many from elsewhere."""
    lowest_speed: int = 4096
    """Bytes per second that a provider must send on average; a slower copy is interrupted, and tried again later."""
    longest_copy: float = 1800.0
    """Seconds for one output, after which it is interrupted."""
    fetched_again_for: timedelta = timedelta(minutes=15)
    """How long an output that arrives damaged, or is not found, is fetched again."""


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
