"""Runs aimock, a third-party simulator of OpenAI and fal: installed with npm, started on a free port.

Its journal records all requests. Its answers are configured over HTTP, for each prompt.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.core.http_client.client import HttpClient
from app.core.http_client.protocol import Request

PACKAGE = "@copilotkit/aimock"
VERSION = "1.43.0"
CACHE = Path(os.environ.get("FLEEK_TEST_CACHE") or Path.home() / ".cache" / "fleek-tests")
READY_SECONDS = 60.0

START_SCRIPT = """
import { LLMock } from "@copilotkit/aimock";
const mock = new LLMock({ port: 0, host: "127.0.0.1", logLevel: "silent",
                          falQueue: { pollsBeforeInProgress: 1, pollsBeforeCompleted: 2 } });
await mock.start();
console.log("ready " + mock.url);
"""


def missing(reason: str) -> None:
    """Fail the test in CI, skip it elsewhere."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def install() -> Path:
    """The installation folder; other processes may be installing it at the same time."""
    folder = CACHE / f"aimock-{VERSION}"
    if folder.is_dir():
        return folder
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        missing("Node.js is not installed: apt-get install nodejs npm")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as new:
        command = [npm, "install", "--no-package-lock", "--no-save", "--no-audit", "--no-fund", f"{PACKAGE}@{VERSION}"]
        run = subprocess.run(command, cwd=new, capture_output=True, text=True, timeout=300, check=False)
        if run.returncode != 0:
            missing(f"npm could not install aimock: {run.stderr[-1000:]}")
        (Path(new) / "start.mjs").write_text(START_SCRIPT)
        with contextlib.suppress(OSError):
            Path(new).rename(folder)
        Path(new).mkdir(exist_ok=True)
    return folder


class Aimock:
    """A running server."""

    def __init__(self, url: str, http: HttpClient) -> None:
        self.url = url
        self._http = http

    async def answers(self, prompt: str, response: dict[str, Any], *, endpoint: str = "image", **more: Any) -> None:
        """Set the answer to prompts that contain this text; the first matching answer wins."""
        model = {"model": more.pop("model")} if "model" in more else {}
        fixture = {"match": {"userMessage": prompt, "endpoint": endpoint, **model}, "response": response, **more}
        await self._control("POST", "fixtures", {"fixtures": [fixture]})

    async def forget(self) -> None:
        """Remove all configured answers."""
        await self._control("DELETE", "fixtures")

    async def arrived(self, method: str, path: str, prompt: str | None = None) -> list[dict[str, Any]]:
        """The requests that it received."""
        entries = await self._control("GET", f"journal?method={method}&path={path}")
        return [entry for entry in entries if prompt is None or prompt in str(entry["body"])]

    async def _control(self, method: str, what: str, body: Any = None) -> Any:
        request = Request(
            method=method,
            url=f"{self.url}/__aimock/{what}",
            headers={"Content-Type": "application/json"},
            body=None if body is None else msgspec.json.encode(body),
            most_bytes=64 * 1024 * 1024,
            guarded=False,
        )
        answer = await self._http.send(request)
        assert answer.status == 200, answer.body
        return msgspec.json.decode(answer.body)


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Its address, while the block lasts."""
    node = shutil.which("node") or "node"
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [node, str(install() / "start.mjs")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield _address(process, log)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def _address(process: subprocess.Popen[bytes], log: Any) -> str:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        log.seek(0)
        output = log.read()
        for line in output.splitlines():
            if line.startswith("ready "):
                return line.removeprefix("ready ").strip()
        assert process.poll() is None, f"aimock ended: {output}"
        assert time.monotonic() < deadline, f"aimock does not start: {output}"
        time.sleep(0.05)


async def start() -> tuple[contextlib.ExitStack, str]:
    """Start it outside the event loop; close the stack to end it."""
    stack = contextlib.ExitStack()
    url = await asyncio.to_thread(stack.enter_context, running())
    return stack, url
