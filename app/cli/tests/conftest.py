"""Runs `fleek` on the engines of the test, in a pipe or on a terminal."""

import asyncio
import os
import pty
import re
import subprocess
import sys

import pytest

from app.jobs.transitions.request import request
from tests.fleek_cli import bare_environment, fleek
from tests.support import environment_of, new_media


@pytest.fixture
def cli(settings, tmp_path):
    """Runs `fleek` on the engines and the database of the test."""

    async def run(*arguments, **environment):
        surroundings = environment_of(settings) | environment
        return await asyncio.to_thread(fleek, *map(str, arguments), folder=tmp_path, **surroundings)

    return run


@pytest.fixture
def terminal(settings, tmp_path):
    """Runs `fleek` on a terminal of 80 columns and types one answer; output without colours, and exit status."""

    def on_terminal(arguments, answer):
        controller, ours = pty.openpty()
        environment = bare_environment(tmp_path) | environment_of(settings) | {"COLUMNS": "80", "TERM": "xterm"}
        command = [sys.executable, "-P", "-m", "app.cli.main", *map(str, arguments)]
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdin=ours, stdout=ours, stderr=ours, start_new_session=True
        ) as process:
            os.close(ours)
            written = b""
            try:
                while chunk := os.read(controller, 65_536):
                    written += chunk
                    if answer and b"[y/N]" in written:
                        os.write(controller, f"{answer}\n".encode())
                        answer = None
            except OSError:
                pass  # how Linux reports that the other side is closed
            finally:
                os.close(controller)
                status = process.wait(30)
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode()).replace("\r\n", "\n"), status

    async def run(*arguments, answer=None):
        return await asyncio.to_thread(on_terminal, arguments, answer)

    return run


@pytest.fixture
def request_as(db):
    """Writes a request of any owner, for any model, straight into the database."""

    async def request_one(owner, model="dummy/faulty"):
        new = new_media(model, owner_id=owner)
        await request(db, new)
        return new

    return request_one
