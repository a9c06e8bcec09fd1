"""What tests share: settings that lead to the engines, a bell to listen to, the API in a user's words."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import asyncpg
import httpx2
import pytest
from alembic.config import Config

from alembic import command
from app.auth.principal import DEFAULT_OWNER_ID
from app.core.bell import WEBHOOKS
from app.core.config import Settings
from app.core.database.migrations import ROOT
from app.core.ids import new_id
from app.embedded.engines import Engines
from app.jobs.transitions.claim import ClaimTerms
from app.jobs.transitions.claim import claim as claim_once
from app.jobs.transitions.request import NewMedia
from app.jobs.worker.slots import NOBODY
from tests.fork_server import fork_server

if TYPE_CHECKING:
    from app.jobs.worker.runner import Runner
    from app.webhooks.delivery import Deliverer

BUCKET = "fleek-test"
PUBLIC_URL = "http://api.test"


def make_settings(engines: Engines, **changes: Any) -> Settings:
    found = {name.lower(): value for name, value in engines.environment().items()}
    quick = {
        "bucket_name": BUCKET,
        "public_url": PUBLIC_URL,
        "access_log": False,
        "claim_interval_seconds": 0.1,
        "retry_base_seconds": 0.05,
        "output_retry_seconds": 0.3,
        # Most tests compare files with what came; those of marks switch them on.
        "mark_outputs": False,
        # All tests are one client.
        "provenance_checks_per_minute": 0,
        "retry_max_seconds": 0.2,
        "shutdown_seconds": 3,
        "reconcile_seconds": 0.3,
        "provider_pause_seconds": 1,
        "environment": "local",
        "log_level": "INFO",
    }
    return Settings(_env_file=None, **{**found, **quick, **changes})


def dsn_of(settings: Settings, database: str) -> str:
    return settings.database_dsn.rpartition("/")[0] + "/" + database


async def on_server(settings: Settings, statement: str) -> None:
    connection = await asyncpg.connect(dsn_of(settings, "postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def migrate(dsn: str, revision: str = "head", *, down: bool = False) -> None:
    """Run Alembic as `alembic upgrade` does, on one database."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", dsn)
        (command.downgrade if down else command.upgrade)(Config(ROOT / "alembic.ini"), revision)


def claim_terms(worker_id, **terms):
    """What a worker says when it claims."""
    usual = {"scan_from_owner": NOBODY, "last_served_owner": NOBODY, "ageing": timedelta(minutes=5), "limits": {}}
    return ClaimTerms(worker_id=worker_id, **{**usual, "trial_pause": timedelta(seconds=30), **terms})


async def claim(db, queue, *, worker_id, limit, **terms):
    """The media that one claim takes."""
    return (await claim_once(db, queue, claim_terms(worker_id, **terms), limit=limit)).media


def new_media(model="dummy/faulty", *, owner_id=DEFAULT_OWNER_ID, queue="network", **columns):
    """A request as it is written."""
    needed = {"prompt": "p", "input": "{}", "metadata": "{}", **columns}
    return NewMedia(id=new_id(), job_id=new_id(), owner_id=owner_id, model=model, queue=queue, **needed)


class ListBell:
    """Remembers its rings, and passes them on to a worker if there is one."""

    def __init__(self) -> None:
        self.rings: list[str] = []
        self.runner: Runner | None = None
        self.deliverer: Deliverer | None = None

    def ring(self, queue: str) -> None:
        self.rings.append(queue)
        if self.runner is not None:
            self.runner.wake(queue)
        if self.deliverer is not None and queue == WEBHOOKS:
            self.deliverer.wake()


@dataclass
class Client:
    """The API together with a runner, in the words of a user."""

    api: httpx2.AsyncClient

    async def answers(self) -> bool:
        """Whether the API is up."""
        try:
            return (await self.api.get("/tools/status")).status_code == 200
        except httpx2.TransportError:
            return False

    async def generate(self, **body: Any) -> dict[str, Any]:
        answer = await self.api.post("/media/generate", json={"prompt": "a lighthouse", **body})
        assert answer.status_code == 202, answer.text
        return answer.json()

    async def faulty(self, **plan: Any) -> dict[str, Any]:
        return await self.generate(model="dummy/faulty", input=plan)

    async def media(self, media: dict[str, Any]) -> dict[str, Any]:
        return (await self.api.get(f"/media/{media['id']}")).json()

    async def until(self, media: dict[str, Any], *statuses: str) -> dict[str, Any]:
        """The media as soon as it is in one of these states; any final one if none is given."""
        wanted = statuses or ("COMPLETED", "ERROR", "CANCELED")
        return await eventually(lambda: self.media(media), lambda seen: seen["status"] in wanted)


async def attempts_of(client: Client, media: dict[str, Any]) -> list[dict[str, Any]]:
    """Every try of a media item, as its owner sees them."""
    return (await client.api.get(f"/media/{media['id']}/attempts")).json()["items"]


async def eventually(
    look: Callable[[], Awaitable[Any]], good: Callable[[Any], bool] = bool, *, seconds: float = 60
) -> Any:
    """What `look` answers, once it is `good`; the last answer is in the error if it never is."""
    seen = None
    try:
        async with asyncio.timeout(seconds):
            while not good(seen := await look()):  # noqa: ASYNC110 - what is waited for is elsewhere
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"never came true; last seen: {seen}")
    return seen


async def pieces(body: bytes, size: int = 50) -> AsyncGenerator[bytes]:
    """As it would come over a network."""
    for start in range(0, len(body), size):
        yield body[start : start + size]


class Program:
    """A program of the product in a process of its own; ended at the end of the block, whatever happens."""

    def __init__(
        self,
        *arguments: str,
        environment: dict[str, str],
        log: Path,
        folder: Path = ROOT,
    ) -> None:
        self._log = log
        self.process = self._start(
            arguments, {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environment}, folder
        )

    def _start(self, arguments: tuple[str, ...], environment: dict[str, str], folder: Path) -> Any:
        with self._log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            self.send(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.send(signal.SIGKILL)
                self.process.wait(10)


class Forked(Program):
    """API or worker; they start at once, as the fork server has imported all that they need."""

    def __init__(
        self, *arguments: str, environment: dict[str, str], log: Path, hand_over: tuple[int, ...] = ()
    ) -> None:
        self._hand_over = hand_over
        super().__init__(*arguments, environment=environment, log=log)

    def _start(self, arguments: tuple[str, ...], environment: dict[str, str], folder: Path) -> Any:
        return fork_server().fork(
            arguments, environment=environment, folder=folder, log=self._log, hand_over=self._hand_over
        )


def environment_of(settings: Settings, **changes: str) -> dict[str, str]:
    """The environment that leads a program to the same engines."""
    secret = settings.aws_secret_access_key.get_secret_value()
    return {
        "DATABASE_URL": settings.database_dsn,
        "REDIS_URL": settings.redis_url.get_secret_value(),
        **({"BROKER_URL": settings.broker_dsn} if settings.broker_url is not None else {}),
        "S3_ENDPOINT_URL": str(settings.s3_endpoint_url),
        "S3_PUBLIC_URL": str(settings.s3_signing_url),
        "AWS_ACCESS_KEY_ID": settings.aws_access_key_id,
        "AWS_SECRET_ACCESS_KEY": secret,
        "BUCKET_NAME": settings.bucket_name,
        "RETRY_BASE_SECONDS": "0.05",
        "SHUTDOWN_SECONDS": "3",
        **changes,
    }


def worker(settings: Settings, log: Path, name: str = "w1", **changes: str) -> Forked:
    """A Celery worker."""
    command = ("celery", "-A", "app.tasks.celery", "worker", "-l", "INFO", "-n", f"{name}@%h")
    return Forked(*command, environment=environment_of(settings, **changes), log=log)


class Address(str):  # noqa: SLOT000 - there are few
    """Of an API, and the process that answers there."""

    pid: int


def listening_socket(port: int = 0, backlog: int = 128) -> socket.socket:
    """A listening socket to hand over to uvicorn with `--fd`."""
    listening = socket.create_server(("127.0.0.1", port), backlog=backlog)
    # uvicorn sets it on sockets of its own; without it each response waits 40 ms for the client's delayed ACK.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


@contextmanager
def served(settings: Settings, log: Path, *, port: int = 0, **changes: str) -> Generator[Address]:
    """The API behind uvicorn; its address. `port` is that of one that has just ended, which this one follows."""
    # Bound by us and handed over: no other process can take the port in between.
    with listening_socket(port) as listening:
        number = listening.fileno()
        address = Address(f"http://127.0.0.1:{listening.getsockname()[1]}")
        environment = environment_of(settings, **{"PUBLIC_URL": address, **changes})
        command = ("uvicorn", "app.main:app", "--fd", str(number), "--no-access-log")
        with Forked(*command, environment=environment, log=log, hand_over=(number,)) as program:
            address.pid = program.process.pid
            yield address


@asynccontextmanager
async def api_and_worker(settings: Settings, logs: Path, **changes: str) -> AsyncGenerator[Client]:
    """The API and a worker in processes of their own."""
    with (
        served(settings, logs / "api.log", **changes) as address,
        worker(settings, logs / "worker.log", **changes),
    ):
        async with httpx2.AsyncClient(base_url=address, timeout=30, trust_env=False) as api:
            client = Client(api)
            await eventually(client.answers)
            yield client
