"""A fork server: a process that has imported everything, and forks each program that a test starts.

It saves the second that each program would spend on its imports. What is forked becomes the program that `python -m`
would start, with its own environment, arguments, log and open files. Nothing of the product has run in it before: the
fork server reads no settings. When its parent ends, it ends, together with everything that it has forked.
`fleek up`, app/cli/tests/test_serve_worker.py and `python -m tests.crash` start programs in the usual way.
"""

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NoReturn

from app.core.database.migrations import ROOT

PRELOADED: Final = (
    *("celery.apps.worker", "celery.bin.celery", "celery.concurrency.thread", "celery.worker.components"),
    *("celery.worker.consumer", "celery.worker.consumer.delayed_delivery", "kombu.transport.redis", "redis.asyncio"),
    *("uvicorn.main", "uvicorn.lifespan.on", "uvicorn.protocols.http.httptools_impl", "uvloop", "app.worker"),
    *(
        "app.core.http_server.access_log",
        "app.core.http_server.docs_page",
        "app.core.http_server.hot_route",
        "app.core.http_server.problems",
        "app.media.api.dependencies",
    ),
    *("app.media.api.router", "app.media.api.models_router", "app.media.api.events_router"),
    *("app.media.api.callback_router", "app.media.api.estimate_router", "app.media.api.timeline_router"),
    *("app.media.api.webhook_docs", "app.uploads.api.router", "app.webhooks.api.router"),
    *(
        "app.media_generator.replicate_media_generator.provider",
        "alembic.command",
        "app.cli.checks.database",
        "app.cli.up.command",
    ),
    *("app.cli.jobs.commands", "app.cli.models.commands", "app.cli.prepare.command", "app.cli.checks.bucket"),
    *("app.cli.checks.doctor", "app.cli.listen.command", "app.cli.new_provider.new_provider_command"),
)
MAX_REQUEST_BYTES: Final = 2**16
MOST_FILES: Final = 8
FIRST_FREE: Final = 512
"""Above all files that the fork server has open."""
POLL_SECONDS: Final = 0.02


class Forked:
    """A process that the fork server has forked; a small Popen."""

    def __init__(self, fork_server: "ForkServer", pid: int) -> None:
        self._fork_server = fork_server
        self.pid = pid

    @property
    def returncode(self) -> int | None:
        return self._fork_server.status(self.pid)

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(POLL_SECONDS)
        return status


class ForkServer:
    """The fork_server's process, and how to have it fork."""

    def __init__(self) -> None:
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ended = dict[int, int]()
        self._lock = threading.Lock()
        with theirs:
            number = theirs.fileno()
            command = [sys.executable, "-m", __name__, str(number)]
            self._process = subprocess.Popen(
                command, cwd=ROOT, env={"PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL, pass_fds=[number]
            )

    def close(self) -> None:
        self._connection.close()
        self._process.wait()

    def fork(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        errors: Path | None = None,
        hand_over: Sequence[int] = (),
    ) -> Forked:
        """Start what `python -m` starts with these arguments, in a session of its own.

        Args:
            arguments: A module, and those of its own.
            environment: All of its variables.
            folder: Its working directory.
            log: Where its output is appended.
            errors: Where its standard error is appended; None: to the log.
            hand_over: Open files that it inherits, under the same numbers.
        """
        request = {
            "arguments": arguments,
            "environment": dict(environment),
            "folder": str(folder),
            "output": [str(log), str(errors or log)],
            "files": hand_over,
        }
        with self._lock:
            socket.send_fds(self._connection, [json.dumps(request).encode()], hand_over)
            while "forked" not in (message := self._receive()):
                continue
        return Forked(self, message["forked"])

    def run(
        self, arguments: Sequence[str], *, environment: Mapping[str, str], folder: Path, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end, as `subprocess.run` does."""
        with TemporaryDirectory(prefix="fleek-run-") as place:
            output, errors = Path(place, "output"), Path(place, "errors")
            program = self.fork(arguments, environment=environment, folder=folder, log=output, errors=errors)
            try:
                status = program.wait(timeout)
            finally:
                program.send_signal(signal.SIGKILL)
            return subprocess.CompletedProcess(arguments, status, output.read_text(), errors.read_text())

    def status(self, pid: int) -> int | None:
        """As `Popen.poll`."""
        with self._lock:
            while select.select([self._connection], [], [], 0)[0]:
                self._receive()
        return self._ended.get(pid)

    def _receive(self) -> dict[str, int]:
        message = json.loads(self._connection.recv(MAX_REQUEST_BYTES))
        if "ended" in message:
            self._ended[message["ended"]] = message["status"]
        return message


@cache
def fork_server() -> ForkServer:
    """The fork server of this test process, started when it is first needed."""
    made = ForkServer()
    atexit.register(made.close)
    return made


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    for name in PRELOADED:
        importlib.import_module(name)
    # It reads settings when it is imported, and they would be those of another process.
    assert "app.tasks.broker" not in sys.modules
    # A thread is not forked, and a lock that it holds would stay locked.
    assert threading.active_count() == 1
    gc.collect()
    gc.freeze()
    forked = set[int]()
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    try:
        while _serve(connection, woken, forked):
            continue
    finally:
        for pid in forked:
            os.kill(pid, signal.SIGKILL)


def _serve(connection: socket.socket, woken: socket.socket, forked: set[int]) -> bool:
    """Fork what is requested, or report what has ended; False: the parent has ended."""
    ready, _, _ = select.select([connection, woken], [], [])
    if woken in ready:
        woken.recv(MAX_REQUEST_BYTES)
        for pid in list(forked):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                forked.discard(pid)
                connection.send(json.dumps({"ended": pid, "status": os.waitstatus_to_exitcode(status)}).encode())
    if connection in ready:
        request, files, _, _ = socket.recv_fds(connection, MAX_REQUEST_BYTES, MOST_FILES)
        if not request:
            return False
        settled, done = os.pipe()
        pid = os.fork()
        if pid == 0:
            _become(json.loads(request), files)
        for file in (*files, done):
            os.close(file)
        # Until it has its own session and files, or is dead.
        os.read(settled, 1)
        os.close(settled)
        forked.add(pid)
        connection.send(json.dumps({"forked": pid}).encode())
    return True


def _become(request: dict[str, Any], files: Sequence[int]) -> NoReturn:
    """Become the requested program."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        _arrange(request, files)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        module, *arguments = request["arguments"]
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
    except BaseException:  # noqa: BLE001 - what Python prints of a program
        traceback.print_exc()
    finally:
        # Nothing of the fork server may continue here.
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(status)


def _arrange(request: dict[str, Any], files: Sequence[int]) -> None:
    """Open files as the program expects them: those it inherits under the numbers that they had; all others close."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in enumerate(request["output"], 1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644), number)
    kept = [fcntl.fcntl(file, fcntl.F_DUPFD, FIRST_FREE) for file in files]
    os.closerange(3, FIRST_FREE)  # the fork server's pipe, too: whoever waits for this process has its log from here on
    for file, number in zip(kept, request["files"], strict=True):
        os.dup2(file, number)
        os.close(file)


if __name__ == "__main__":
    main()
