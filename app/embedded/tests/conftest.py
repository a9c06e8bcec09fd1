"""Starts engines of a test's own."""

import contextlib

import pytest


@pytest.fixture
def start():
    """Makes and starts engines that are stopped after the test, however it ends."""
    with contextlib.ExitStack() as stack:

        def _start(kind, data, **options):
            engine = kind(data, **options)
            stack.callback(engine.stop)
            engine.start()
            return engine

        yield _start
