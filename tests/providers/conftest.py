"""Servers that several files of tests talk to."""

from collections.abc import Generator

import pytest

from tests.providers.cog_server import cog_server


@pytest.fixture(scope="session")
def cog_address(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Where a Cog server listens."""
    with cog_server(tmp_path_factory.mktemp("cog")) as running:
        yield running
