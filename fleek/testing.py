"""What the author of a provider tests with."""

from app.media_generator.testing import ProviderContract
from app.media_generator.testing_http import open_http
from app.media_generator.troubles import Trouble

__all__ = ["ProviderContract", "Trouble", "open_http"]
