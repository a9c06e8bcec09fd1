"""Real engines for every test: started once, a database of its own for each test that asks for one."""

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from uuid import UUID

import httpx2
import pytest

from app.core.config import Settings
from app.core.database.pool import DatabasePool
from app.embedded.engines import Engines
from app.jobs.worker.runner import Runner
from app.main import create_app
from app.media_generator.registry import Registry
from app.runtime import Runtime, open_runtime
from app.storage.raw_answers import StoredRawAnswers
from app.storage.s3 import S3Store
from app.worker import build_runner
from tests.jobs import register_worker
from tests.providers.aimock import running
from tests.providers.cog_server import cog_server
from tests.support import PUBLIC_URL, Client, ListBell, dsn_of, make_settings, migrate, on_server

_numbers = itertools.count(1)

# Under nohup it is ignored, and what the tests start would respect that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


_SLOWEST = (
    "test_points",
    "test_cog",
    "test_up",
    "test_up_stop",
    "test_claim",
    "test_upgrade_of_a_filled_database",
    "test_cog_callbacks",
    "test_replicate",
    "test_local_pipeline",
    "test_engine_start_and_stop",
)
_SLOW = (
    "test_poison",
    "test_rabbitmq",
    "test_unhealthy_receivers",
    "test_fleet",
    "test_late_results",
    "test_openapi",
    "test_doctor",
    "test_random_kills",
    "test_new_field",
    "test_new_provider",
    "test_serve_worker",
    "test_fal",
    "test_outages",
    "test_event_streams",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first: begun last, they would keep one process busy while the others are done."""
    ranks = {name: rank for rank, name in enumerate((*_SLOWEST, *_SLOW))}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


def pytest_xdist_auto_num_workers() -> int:
    """One process more than the machine has cores: tests wait as much as they compute."""
    return (os.cpu_count() or 1) + 1


_MEMORY = Path("/dev/shm")
_MEMORY_BYTES = 2 * 1024**3
"""For the engines of one process; they take a quarter of it."""


def _quickest_folder() -> Path | None:
    """In memory, where there is enough: a database for each test is hundreds of files; None: where the system says."""
    with contextlib.suppress(OSError):
        if shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES:
            return _MEMORY
    return None


@pytest.fixture(scope="session")
def engines() -> Generator[Engines]:
    """PostgreSQL, Valkey and S3 from the wheels, in a folder that goes away."""
    made = tempfile.TemporaryDirectory(prefix="fleek-test-", dir=_quickest_folder())
    with made as folder, Engines(Path(folder), durable=False) as running:
        yield running


@pytest.fixture(scope="session")
def base_settings(engines: Engines) -> Settings:
    """Settings that lead to the engines; everything quick."""
    return make_settings(engines)


@pytest.fixture(scope="session")
async def template(base_settings: Settings) -> str:
    """A migrated database to copy."""
    await on_server(base_settings, "CREATE DATABASE template_fleek")
    await asyncio.to_thread(migrate, dsn_of(base_settings, "template_fleek"))
    await S3Store(base_settings).prepare()
    return "template_fleek"


@pytest.fixture(scope="session")
def vault(base_settings: Settings, template: str) -> StoredRawAnswers:
    """Where providers keep answers: in the bucket, which is made with the template."""
    assert template
    return StoredRawAnswers(S3Store(base_settings))


@pytest.fixture
async def database(base_settings: Settings, template: str) -> AsyncGenerator[str]:
    """The address of a migrated database of the test's own."""
    name = f"test_{next(_numbers)}"
    # Not by way of the WAL, page by page: five times as fast where nothing is flushed.
    await on_server(base_settings, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    yield dsn_of(base_settings, name)
    await on_server(base_settings, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def settings(engines: Engines, database: str) -> Settings:
    """Settings with a database of the test's own."""
    return make_settings(engines, database_url=database)


@pytest.fixture
async def db(settings: Settings) -> AsyncGenerator[DatabasePool]:
    """Connections to the test's own database."""
    connections = DatabasePool(settings.database_dsn, size=10)
    yield connections
    await connections.close()


@pytest.fixture
async def worker_id(db: DatabasePool) -> UUID:
    """A registered worker, which does nothing."""
    return await register_worker(db)


@pytest.fixture
async def runtime(settings: Settings) -> AsyncGenerator[Runtime]:
    """The open parts of a process."""
    async with open_runtime(settings) as opened:
        yield opened


@pytest.fixture
def bell() -> ListBell:
    return ListBell()


@pytest.fixture
def registry() -> Registry | None:
    """The providers of the API; None: those that are installed and set up."""
    return None


@pytest.fixture
async def api(settings: Settings, bell: ListBell, registry: Registry | None) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client of the API, in this process; nobody works on its jobs."""
    app = create_app(settings, bell, registry)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url=PUBLIC_URL) as client:
        yield client


@pytest.fixture
async def runner(runtime: Runtime, bell: ListBell) -> AsyncGenerator[Runner]:
    """A runner in this process, woken by the bell."""
    bell.runner = build_runner(runtime)
    await bell.runner.start()
    yield bell.runner
    await bell.runner.stop()


@pytest.fixture
def client(api: httpx2.AsyncClient) -> Client:
    return Client(api)


@pytest.fixture
def product(client: Client, runner: Runner) -> Client:
    """The API with a runner at work."""
    assert runner.in_flight == 0
    return client


@pytest.fixture
async def working(settings, bell):
    """Starts runners with providers of the test's own."""
    stack = []

    async def start(provider, **changes):
        opened = open_runtime(settings.model_copy(update={"lease_seconds": 1.2, **changes}), Registry([provider]))
        runner = bell.runner = build_runner(await opened.__aenter__())
        await runner.start()
        stack.append((runner, opened))
        return runner

    yield start
    for runner, opened in stack:
        await runner.stop()
        await opened.__aexit__(None, None, None)


@pytest.fixture(scope="session")
def cog_address(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Where a Cog server listens."""
    with cog_server(tmp_path_factory.mktemp("cog")) as address:
        yield address


@pytest.fixture(scope="session")
def aimock_url() -> Generator[str]:
    """Where aimock listens."""
    with running() as url:
        yield url


@pytest.fixture
async def api_of(settings, bell):
    """A client of an API that sells what it is given."""
    stack = []

    async def start(registry, **changes):
        app = create_app(settings.model_copy(update=changes), bell, registry)
        lifespan = app.router.lifespan_context(app)
        await lifespan.__aenter__()
        client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=PUBLIC_URL)
        stack.append((client, lifespan))
        return client

    yield start
    for client, lifespan in stack:
        await client.aclose()
        await lifespan.__aexit__(None, None, None)
