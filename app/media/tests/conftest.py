"""The API in a process of its own, for tests that need real connections."""

import httpx2
import pytest

from tests.support import Client, eventually, served


@pytest.fixture
def address(settings, tmp_path):
    """Where an API listens."""
    with served(settings, tmp_path / "api.log") as found:
        yield found


@pytest.fixture
async def server(address):
    """A client of that API."""
    async with httpx2.AsyncClient(base_url=address, timeout=70, trust_env=False) as api:
        client = Client(api)
        await eventually(client.answers)
        yield client


@pytest.fixture
async def server_with_runner(server, runner):
    """The same, with a runner in this process."""
    assert runner.in_flight == 0
    return server
