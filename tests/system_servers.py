"""Servers that no wheel brings: RabbitMQ, PgBouncer and nginx from the system's packages, each in a folder of its own.

`.ci/run` installs them. Elsewhere a test that needs one is skipped, with its reason.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest

from app.embedded.process import LOOPBACK
from tests.fleek_cli import free_api_port

READY_SECONDS = 60.0


def find(program: str, package: str) -> str:
    """The path of a program; without it the test fails in CI, and is skipped elsewhere."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/usr/lib/rabbitmq/bin")
    if found is None:
        reason = f"{program} is not installed: apt-get install {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


class Server:
    """One of them; ended with all its processes at the end of the block."""

    def __init__(self, folder: Path, *arguments: str, port: int, **environment: str) -> None:
        self.folder = folder
        self.port = port
        self._arguments = arguments
        self._environment = {"PATH": f"{os.environ['PATH']}:/usr/sbin", "HOME": str(folder), **environment}
        self._log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._arguments,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_SECONDS
        while not answers(self.port):
            told = self._log.read_text(errors="replace")[-3000:]
            assert self.process.poll() is None, f"{self._arguments[0]} ended: {told}"
            assert time.monotonic() < deadline, f"{self._arguments[0]} does not answer: {told}"
            time.sleep(0.05)

    def kill(self) -> None:
        """As when its machine loses power."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()


class RabbitMQ(Server):
    """A node of its own, with a port mapper of its own."""

    def __init__(self, folder: Path) -> None:
        program = find("rabbitmq-server", "rabbitmq-server")
        if Path(program).parent != Path("/usr/lib/rabbitmq/bin"):
            # Debian's wrapper around it changes the user and ignores the environment.
            program = shutil.which("rabbitmq-server", path="/usr/lib/rabbitmq/bin") or program
        mapper, port, distribution = free_api_port(), free_api_port(), free_api_port()
        (folder / "plugins").write_text("[].")
        nothing = str(folder / "nothing")
        super().__init__(
            folder,
            program,
            port=port,
            ERL_EPMD_PORT=str(mapper),
            ERL_EPMD_ADDRESS=LOOPBACK,
            RABBITMQ_NODENAME="fleek@localhost",
            RABBITMQ_NODE_IP_ADDRESS=LOOPBACK,
            RABBITMQ_NODE_PORT=str(port),
            RABBITMQ_DIST_PORT=str(distribution),
            RABBITMQ_MNESIA_BASE=str(folder / "data"),
            RABBITMQ_LOGS="-",
            RABBITMQ_ENABLED_PLUGINS_FILE=str(folder / "plugins"),
            RABBITMQ_CONFIG_FILE=nothing,
            RABBITMQ_CONF_ENV_FILE=nothing,
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
        )
        self._mapper = Server(folder, find("epmd", "rabbitmq-server"), "-port", str(mapper), port=mapper)
        self.url = f"amqp://guest:guest@{LOOPBACK}:{port}//"

    def start(self) -> None:
        self._mapper.start()
        super().start()

    def kill(self) -> None:
        super().kill()
        self._mapper.kill()

    def forget(self) -> None:
        """As when its machine is replaced. One that was killed at times finds no leader for a queue in 3.10."""
        shutil.rmtree(self.folder / "data")


class PgBouncer(Server):
    """In transaction mode, with fewer sessions than the product opens, so that they change hands."""

    def __init__(self, folder: Path, dsn: str, *, keeps_statements: bool) -> None:
        program = find("pgbouncer", "pgbouncer")
        told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        self.version = tuple(int(part) for part in re.findall(r"\d+", told)[:2])
        there = urlsplit(dsn)
        port = free_api_port()
        lines = [
            "[databases]",
            f"* = host={there.hostname} port={there.port} user={there.username} password={there.password}",
            "[pgbouncer]",
            f"listen_addr = {LOOPBACK}",
            f"listen_port = {port}",
            "unix_socket_dir =",
            "auth_type = any",
            "pool_mode = transaction",
            "default_pool_size = 3",
        ]
        if self.version >= (1, 21):
            lines.append(f"max_prepared_statements = {100 if keeps_statements else 0}")
        elif keeps_statements:
            pytest.skip(f"PgBouncer {told.split()[1]} keeps no prepared statements")
        file = folder / "pgbouncer.ini"
        file.write_text("\n".join([*lines, ""]))
        account = ["-u", "nobody"] if os.geteuid() == 0 else []
        super().__init__(folder, program, *account, str(file), port=port)
        self._database = there.path

    @property
    def dsn(self) -> str:
        return f"postgresql://fleek@{LOOPBACK}:{self.port}{self._database}"
