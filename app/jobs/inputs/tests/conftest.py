"""A provider that takes input files, and a worker with it."""

import pytest

from app.core.http_client.client import HttpClient
from app.media_generator.registry import Registry
from app.runtime import open_runtime
from app.worker import build_runner
from tests.input_files import FileProvider


@pytest.fixture
def provider():
    return FileProvider(data_uri_bytes=10_000, uploads=True)


@pytest.fixture
def registry(provider):
    return Registry([provider])


@pytest.fixture
async def start_worker(settings, bell, provider):
    """Starts a runner with this provider and a client for other servers."""
    stack = []

    async def start(http=None, **changes):
        chosen = settings.model_copy(update=changes)
        client = http or HttpClient(allow_private_addresses=chosen.allow_private_addresses)
        opened = open_runtime(chosen, Registry([provider]), client)
        runner = bell.runner = build_runner(await opened.__aenter__())
        await runner.start()
        stack.append((runner, opened))
        return runner

    yield start
    for runner, opened in stack:
        await runner.stop()
        await opened.__aexit__(None, None, None)
