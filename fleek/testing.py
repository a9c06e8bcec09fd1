"""The public API for tests of providers."""

from app.media_generator.contract.failure_contract import Trouble
from app.media_generator.contract.http import open_http
from app.media_generator.contract.provider_contract import ProviderContract

__all__ = ["ProviderContract", "Trouble", "open_http"]
