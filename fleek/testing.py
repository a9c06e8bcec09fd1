"""What the author of a provider tests with."""

from app.media_generator.testing import ProviderContract

__all__ = ["ProviderContract"]
