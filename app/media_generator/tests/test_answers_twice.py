"""A provider that answers some calls twice: nobody gets the result of another, on a real socket.

The second answers come at once, in pieces, or so late that the next request has been written.
"""

import asyncio
import json
import random
import re
from urllib.parse import urlsplit

import pytest

from app.core.database.migrations import ROOT
from app.media_generator.accounts import Account, ProviderSetup
from app.media_generator.comfyui_media_generator.provider import ComfyUIMediaGeneratorModel
from app.media_generator.errors import NotReachedError
from app.media_generator.fal_media_generator.provider import FalMediaGeneratorModel
from app.media_generator.media_generator_model import Reference, Running, Succeeded
from app.media_generator.replicate_media_generator.provider import ReplicateMediaGeneratorModel
from fleek.testing import open_http

PURCHASES = 40
POLLS = 10
"""Until a purchase has finished."""


class TwiceServer:
    """Replicate, fal and ComfyUI in one, as far as polls need them; some answers are sent twice."""

    def __init__(self):
        self.chance = random.Random(13)
        self.polls = {}
        self.twice = 0
        self.url = ""
        self._late = set()

    async def serve(self, reader, writer):
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                method, path = head.split()[:2]
                length = int((re.search(r"content-length: (\d+)", head.lower()) or ["", "0"])[1])
                await reader.readexactly(length)
                status, body = self.answer(method, urlsplit(path).path)
                content = json.dumps(body).encode()
                answer = b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n%b" % (status, len(content), content)
                writer.write(answer)
                if self.chance.random() < 0.3:
                    self.twice += 1
                    later = asyncio.create_task(self.again(writer, answer))
                    self._late.add(later)
                    later.add_done_callback(self._late.discard)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def again(self, writer, answer):
        cut = self.chance.choice([len(answer), 5, len(answer) - 1])
        writer.write(b"") if self.chance.random() < 0.3 else await asyncio.sleep(self.chance.random() * 0.02)
        writer.write(answer[:cut])
        await asyncio.sleep(0.002)
        writer.write(answer[cut:])

    def answer(self, method, path):
        """The status and body of one call."""
        name = (re.search(r"(one-\d+)", path) or ["", ""])[1]
        if path.startswith("/queue"):
            running = [[1, one, {}, {}, []] for one, polls in self.polls.items() if polls < POLLS]
            return 200, {"queue_running": running, "queue_pending": []}
        if self.chance.random() < 0.1:
            return 500, {"detail": "try again"}
        counts = method == "GET" and not re.search(r"requests/[^/]+$", path)
        self.polls[name] = self.polls.get(name, 0) + counts
        done = self.polls[name] >= POLLS
        if "/history/" in path:
            file = {"filename": f"{name}.png", "subfolder": "", "type": "output"}
            return 200, {name: {"outputs": {"9": {"images": [file]}}, "status": {}}} if done else {}
        if path.endswith("/status"):
            return 200, {"status": "COMPLETED" if done else "IN_PROGRESS", "request_id": name}
        if "/requests/" in path:
            return 200, {"images": [{"url": f"{self.url}/{name}.png"}]}
        return 200, {"id": name, "status": "succeeded" if done else "processing", "output": f"{self.url}/{name}.png"}


@pytest.fixture
async def server():
    running = TwiceServer()
    listening = await asyncio.start_server(running.serve, "127.0.0.1", 0)
    running.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    yield running
    listening.close()


def replicate(url, http):
    settings = {"api_token": "t", "base_url": f"{url}/v1"}
    return ReplicateMediaGeneratorModel.open_account(ProviderSetup(Account("replicate", settings), http))


def fal(url, http):
    return FalMediaGeneratorModel.open_account(ProviderSetup(Account("fal", {"key": "k", "base_url": url}), http))


def comfyui(url, http):
    settings = {"base_url": url, "workflows": str(ROOT / "deploy" / "comfyui")}
    return ComfyUIMediaGeneratorModel.open_account(ProviderSetup(Account("comfyui", settings), http))


@pytest.mark.parametrize("make", [replicate, fal, comfyui])
async def test_no_purchase_gets_the_result_of_another(server, make):
    async with open_http() as http:
        provider = make(server.url, http)

        async def result(number):
            reference = Reference(f"one-{number}", {"model": "fal-ai/flux", "outputs": []})
            for _ in range(400):
                try:
                    outcome = await provider.poll(reference)
                except NotReachedError:
                    outcome = Running()
                if not isinstance(outcome, Running):
                    return outcome
                await asyncio.sleep(0.005)
            return outcome

        outcomes = await asyncio.gather(*(result(number) for number in range(PURCHASES)))

    assert server.twice > PURCHASES / 2
    assert [outcome for outcome in outcomes if not isinstance(outcome, Succeeded)] == []
    wrong = [
        (number, outcome.outputs)
        for number, outcome in enumerate(outcomes)
        if [f"one-{number}.png" in output.location for output in outcome.outputs] != [True]
    ]
    assert wrong == []
