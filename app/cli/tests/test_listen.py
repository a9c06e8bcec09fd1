"""`fleek listen`: every event once, in order, signed like a webhook, also across a restart of the API."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import httpx2
import pytest
from standardwebhooks import Webhook
from typer.testing import CliRunner

from app.cli.listen.format import printable
from app.cli.listen.forward import webhook_id_of
from app.cli.main import app
from app.embedded.lock import DataFolderLock
from tests.fleek_cli import bare_environment, fleek
from tests.receiver import Receiver, answering, dropping
from tests.support import Client, eventually, served

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Listen:
    """One `fleek listen`, stopped at the end of the block."""

    def __init__(self, folder: Path, *options: str, stdout=None, **environment: str) -> None:
        self._out, self._notes = folder / "listen.out", folder / "listen.notes"
        with self._out.open("wb") as out, self._notes.open("wb") as notes:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "app.cli.main", "listen", *options],
                cwd=folder,
                env=bare_environment(folder) | environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout or out,
                stderr=notes,
                start_new_session=True,
            )

    @property
    def lines(self) -> list[str]:
        return self._out.read_text().splitlines()

    @property
    def notes(self) -> str:
        return self._notes.read_text()

    async def says(self, text: str) -> None:
        await eventually(lambda: asyncio.sleep(0, self.notes), lambda notes: text in notes)

    async def shows(self, count: int, wanted: Callable[[str], bool] = bool) -> list[str]:
        return await eventually(
            lambda: asyncio.sleep(0, self.lines), lambda lines: len([line for line in lines if wanted(line)]) >= count
        )

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


@contextlib.asynccontextmanager
async def client_of(address):
    async with httpx2.AsyncClient(base_url=address, timeout=60, trust_env=False) as api:
        client = Client(api)
        await eventually(client.answers)
        yield client


@pytest.fixture
async def server(settings, runner, tmp_path):
    """The API in a process of its own, a worker in this one."""
    assert runner.in_flight == 0
    with served(settings, tmp_path / "api.log") as address:
        async with client_of(address) as client:
            yield client


@pytest.fixture
async def receiver():
    async with Receiver() as opened:
        yield opened


def address_of(client):
    return str(client.api.base_url).rstrip("/")


def test_webhook_id_is_stable_and_unique_per_event():
    one, other = "019c0a3e-0000-7000-8000-000000000001", "019c0a3e-0000-7000-8000-000000000002"

    assert webhook_id_of(one, 7) == webhook_id_of(one, 7)
    assert len({webhook_id_of(media, sequence) for media in (one, other) for sequence in (7, 8)}) == 4


def test_output_has_no_terminal_control_characters():
    assert printable("a\x1b[2J\nb…") == "a [2J b…"


async def test_each_event_is_shown_and_forwarded_signed_like_a_webhook(server, receiver, tmp_path):
    with Listen(tmp_path, "--api", address_of(server), "--forward-to", receiver.url, "--progress") as listen:
        await listen.says("connected")
        media = await server.until(await server.faulty(delay=1.5))
        shown = await eventually(
            lambda: asyncio.sleep(0, listen.lines), lambda lines: "completed" in "".join(lines[-1:])
        )
        code = listen.stop()

    assert code == 0
    lines = [line for line in shown if "  progress   " not in line]
    assert any(line.endswith("%") for line in shown if line not in lines)
    assert [line.split()[1:4] for line in lines] == [
        [name, media["id"], "dummy/faulty"] for name in ("queued", "started", "completed")
    ]
    assert all("-> 204 in " in line for line in lines)
    assert f"1 file, {media['files'][0]['url']}" in lines[2]
    (secret,) = [word.strip(";,") for word in listen.notes.split() if word.startswith("whsec_")]
    payloads = [Webhook(secret).verify(got.body, got.headers) for got in receiver.got]
    assert [payload["type"] for payload in payloads] == ["media.queued", "media.started", "media.completed"]
    assert payloads[2]["data"]["files"] == media["files"]
    assert [got.id for got in receiver.got] == [webhook_id_of(media["id"], payload["sequence"]) for payload in payloads]
    assert receiver.got[0].headers["content-type"] == "application/json"
    assert "stopped; 3 events, 0 of them not accepted by the receiver" in listen.notes


async def test_failed_forward_is_reported_and_not_retried(server, receiver, tmp_path):
    options = ("--api", address_of(server), "--forward-to", receiver.url, "--events", "completed,media.failed")
    receiver.answer = answering(500)
    with Listen(tmp_path, *options, FLEEK_LISTEN_SECRET=SECRET) as listen:
        await listen.says("connected")
        await server.until(await server.faulty(fail_with="input_refused", fail_times=9))
        await listen.shows(1)
        receiver.answer = answering(302, location="/elsewhere")
        await server.until(await server.faulty())
        await listen.shows(2)
        receiver.answer = dropping
        await server.until(await server.faulty())
        await listen.shows(3)
        await receiver.close()
        await server.until(await server.faulty())
        lines = await listen.shows(4)
        assert listen.stop(signal.SIGTERM) == 0

    assert "failed" in lines[0]
    assert "input_refused: " in lines[0]
    for line, reason in zip(
        lines, ("answered 500", "answered 302: redirects are not", "the connection to", "no connection to"), strict=True
    ):
        assert f": {reason}" in line.partition("-> FAILED in ")[2]
        assert line.endswith("not retried")
    assert receiver.types() == ["media.failed", "media.completed", "media.completed"]
    assert Webhook(SECRET).verify(receiver.got[0].body, receiver.got[0].headers)
    assert SECRET not in listen.notes
    assert "4 of them not accepted" in listen.notes


async def test_restart_of_the_api_loses_and_duplicates_no_event(settings, runner, receiver, tmp_path):
    assert runner.in_flight == 0
    count = 30
    with contextlib.ExitStack() as stack:
        with served(settings, tmp_path / "api1.log") as address:
            async with client_of(address) as client:
                options = ("--api", address, "--forward-to", receiver.url, "--json")
                listen = stack.enter_context(Listen(tmp_path, *options))
                await listen.says("connected")
                requested = await asyncio.gather(*(client.faulty(delay=1) for _ in range(count)))
                await eventually(lambda: asyncio.sleep(0, receiver.types()), lambda types: "media.started" in types)
                os.kill(address.pid, signal.SIGKILL)
            await listen.says("disconnected")
        # While the API is down, jobs go on.
        await eventually(lambda: asyncio.sleep(0, runner.in_flight == 0))
        with served(settings, tmp_path / "api2.log", port=urlsplit(address).port) as again:
            assert again == address
            async with client_of(address) as client:
                requested.append(await client.until(await client.faulty()))
            await eventually(
                lambda: asyncio.sleep(0, receiver.types()), lambda types: types.count("media.completed") == count + 1
            )
            assert listen.stop() == 0

    received = [(got.payload["data"]["id"], got.payload["type"].partition(".")[2]) for got in receiver.got]
    assert len(received) == len(set(received)) == 3 * (count + 1)
    for media in requested:
        assert [name for of, name in received if of == media["id"]] == ["queued", "started", "completed"]
    shown = [json.loads(line) for line in listen.lines]
    assert [(line["data"]["data"]["id"], line["event"]) for line in shown] == received
    assert [line["forwarded"]["webhook_id"] for line in shown] == [got.id for got in receiver.got]
    assert len({got.id for got in receiver.got}) == len(receiver.got)
    assert {line["forwarded"]["status_code"] for line in shown} == {204}
    assert listen.notes.count("disconnected") <= 2
    assert "reconnected" in listen.notes


async def test_filters_apply_and_a_closed_output_ends_listen(server, tmp_path):
    reading, writing = os.pipe()
    options = ("--status", "canceled", "--status", "Completed", "--tag", "blue", "--model", "dummy/faulty")
    with Listen(tmp_path, *options, stdout=writing, FLEEK_API=address_of(server)) as listen:
        os.close(writing)
        await listen.says("connected")
        await server.until(await server.faulty())
        wanted = await server.until(await server.generate(model="dummy/faulty", tags=["blue"]))
        with os.fdopen(reading) as lines:
            line = await asyncio.to_thread(lines.readline)
        assert ("completed", wanted["id"]) == tuple(line.split()[1:3])

        await server.until(await server.generate(model="dummy/faulty", tags=["blue"]))

        assert await eventually(lambda: asyncio.sleep(0, listen.process.poll()), lambda code: code is not None) == 0
    assert "Traceback" not in listen.notes


async def test_listen_finds_a_running_fleek_up_and_waits_for_its_api(tmp_path):
    with DataFolderLock(tmp_path / ".fleek"):
        (tmp_path / ".fleek" / "env").write_text("PUBLIC_URL='http://127.0.0.1:9/'\n")
        with Listen(tmp_path) as listen:
            await listen.says("listening at http://127.0.0.1:9\n")
            await listen.says("no connection to 127.0.0.1, port 9 (Connection refused); retrying every 2 s")
            assert listen.stop() == 0


async def test_address_of_another_server_is_reported(receiver, tmp_path):
    receiver.answer = answering(200, "hello")
    done = await asyncio.to_thread(fleek, "listen", "--api", receiver.url, folder=tmp_path)

    assert (done.returncode, done.stdout) == (1, "")
    assert f"{receiver.url}/media/events answered 200 (text/plain): this is not a Fleek API" in done.stderr


async def test_refusal_by_the_api_is_reported(server, tmp_path):
    options = ("--api", address_of(server), "--model", "x" * 201)
    done = await asyncio.to_thread(fleek, "listen", *options, folder=tmp_path)

    assert done.returncode == 1
    assert "the API answered 422: model" in done.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--events", "complete"), "unknown event complete; known are queued, started"),
        (("--api", "localhost:8000"), "must begin with http:// or https://"),
        (("--forward-to", "3000"), "must begin with http:// or https://"),
        (("--secret", "geheim"), "whsec_ followed by base64"),
        (("--secret", "whsec_"), "whsec_ followed by base64"),
        (("--status", "DONE"), "'completed'"),
    ],
)
def test_invalid_option_is_named_with_what_to_change(options, complaint):
    done = CliRunner().invoke(app, ["listen", *options], env={"COLUMNS": "200"})

    assert (done.exit_code, done.stdout) == (2, "")
    assert complaint in " ".join(done.stderr.replace("│", "").split())
