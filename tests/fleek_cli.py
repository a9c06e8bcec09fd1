"""Runs `fleek` as a user does: one command to its end, or a whole `fleek up`, in a folder of the test's own."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import httpx2
import psutil

from app.core.database.migrations import ROOT
from app.embedded.process import LOOPBACK, port_is_free
from tests.fork_server import fork_server

READY = "Ctrl-C stops everything"


def free_api_port() -> int:
    """A free port, outside the range that engines choose from."""
    return next(port for port in random.sample(range(8100, 11_900), 100) if port_is_free(LOOPBACK, port))


def fleek(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    surroundings = bare_environment(folder) | environment
    return fork_server().run(["app.cli.main", *arguments], environment=surroundings, folder=folder, timeout=60)


def bare_environment(folder: Path) -> dict[str, str]:
    root = str(ROOT)
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": root, "COLUMNS": "200"}


def processes_in(folder: Path) -> list[psutil.Process]:
    """All processes that work in a folder: engines, API, workers and helpers of a `fleek up`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(folder):
                found.append(process)
    return found


class Up:
    """One `fleek up`, stopped with all its processes at the end of the block."""

    def __init__(self, folder: Path, *options: str, port: int | None = None, **environment: str) -> None:
        self.folder = folder
        self.port = port or free_api_port()
        self._log = folder / f"terminal-{time.monotonic_ns()}"
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "app.cli.main", "up", "--port", str(self.port), *options],
                cwd=folder,
                env=bare_environment(folder) | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.api = httpx2.Client(base_url=f"http://{LOOPBACK}:{self.port}", timeout=10, trust_env=False)

    @property
    def output(self) -> str:
        return self._log.read_text()

    def says(self, text: str, *, seconds: float = 45) -> str:
        """Wait until it has printed a text; its whole output."""
        deadline = time.monotonic() + seconds
        while text not in self.output:
            assert self.process.poll() is None, f"ended without printing {text!r}: {self.output}"
            assert time.monotonic() < deadline, f"has not printed {text!r}: {self.output}"
            time.sleep(0.02)
        return self.output

    def ready(self) -> Self:
        self.says(READY)
        return self

    def child(self, word: str) -> psutil.Process:
        """Its only child with this word in its command line."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if word in " ".join(child.cmdline()):
                    found.append(child)
        assert len(found) == 1, found
        return found[0]

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> float:
        """Send a signal and wait for the end; the seconds it took."""
        started = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(20)
        return time.monotonic() - started

    def generate(self, **body: Any) -> dict[str, Any]:
        answer = self.api.post("/media/generate", json={"prompt": "a lighthouse", **body})
        assert answer.status_code == 202, answer.text
        return answer.json()

    def media(self, job_id: str) -> dict[str, Any]:
        return self.api.get(f"/media/status/{job_id}").json()

    def completed(self, media: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while (seen := self.media(media["job_id"]))["status"] != "COMPLETED":
            assert seen["status"] != "ERROR", seen
            assert time.monotonic() < deadline, seen
            time.sleep(0.05)
        return seen

    def content(self, media: dict[str, Any]) -> bytes:
        return self.api.get(media["files"][0]["url"], follow_redirects=True).raise_for_status().content

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.api.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
        for process in processes_in(self.folder):
            with contextlib.suppress(psutil.Error):
                process.kill()


NOWHERE = {
    "DATABASE_URL": "postgresql://me:s3cret@127.0.0.1:1/fleek",
    "REDIS_URL": "redis://:s3cret@127.0.0.1:1/0",
    "S3_ENDPOINT_URL": "http://127.0.0.1:1",
}


def json_lines(done):
    """What a command with `--json` printed, line by line."""
    return [json.loads(line) for line in done.stdout.splitlines()]
