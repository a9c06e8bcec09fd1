"""Fleets for crash tests, on the engines of all tests and each with a database of its own."""

import itertools
from contextlib import asynccontextmanager

import pytest

from tests.crash.fleet import Fleet
from tests.fork_server import fork_server
from tests.support import BUCKET, dsn_of, on_server

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def new_fleet(engines, base_settings, template, tmp_path_factory):
    """A fleet of one's own: simulator and API at work; workers are the test's affair."""

    @asynccontextmanager
    async def make(*, simulator=(), **changes):
        name = f"crash_{next(_numbers)}"
        await on_server(base_settings, f"CREATE DATABASE {name} TEMPLATE {template}")
        environment = {**engines.environment(), "DATABASE_URL": dsn_of(base_settings, name), "BUCKET_NAME": BUCKET}
        environment |= changes
        try:
            async with Fleet(environment, tmp_path_factory.mktemp(name), fork_server(), simulator=simulator) as running:
                yield running
        finally:
            await on_server(base_settings, f"DROP DATABASE {name} WITH (FORCE)")

    return make


@pytest.fixture(scope="module")
async def fleet(new_fleet):
    """One for the whole module."""
    async with new_fleet() as running:
        yield running
