"""Running engines: sessions, addresses, secrets."""

import os

import psutil
import pytest

from app.embedded.engines import Engines
from app.embedded.errors import DataFolderInUseError
from app.embedded.process import LOOPBACK
from app.embedded.valkey import ValkeyEngine
from tests.engine_clients import on_linux


def test_ctrl_c_in_the_terminal_does_not_reach_engines(engines):
    ours = os.getsid(0)

    assert all(os.getsid(engine.pid) not in {ours, 0} for engine in engines.chosen)


@on_linux
def test_engines_listen_on_loopback_only(engines):
    for engine in engines.chosen:
        connections = psutil.Process(engine.pid).net_connections("tcp")
        listening = [found.laddr.ip for found in connections if found.status == psutil.CONN_LISTEN]
        assert set(listening) == {LOOPBACK}


def test_environment_holds_addresses_and_keys_of_the_engines(engines):
    environment = engines.environment()

    assert environment["DATABASE_URL"] == engines.postgres.dsn
    assert environment["REDIS_URL"] == engines.valkey.url
    assert environment["S3_ENDPOINT_URL"] == environment["S3_PUBLIC_URL"] == engines.seaweed.endpoint_url
    assert environment["AWS_ACCESS_KEY_ID"] == engines.seaweed.access_key_id
    assert environment["AWS_SECRET_ACCESS_KEY"] == engines.seaweed.secret_access_key
    assert environment["AWS_DEFAULT_REGION"] == "us-east-1"


def test_unknown_engine_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="unknown engines: oracle"):
        Engines(tmp_path, only=["oracle"])


def test_starting_running_engines_changes_nothing(engines):
    pids = [engine.pid for engine in engines.chosen]

    engines.start()

    assert [engine.pid for engine in engines.chosen] == pids


def test_engine_folder_in_use_is_refused(engines, monkeypatch):
    monkeypatch.setattr(ValkeyEngine, "lock_wait_seconds", 0.1)

    with pytest.raises(DataFolderInUseError, match=f"in use by process {engines.valkey.pid}"):
        ValkeyEngine(engines.valkey.data).start()


def test_secrets_are_readable_by_their_owner_only(engines):
    for engine in engines.chosen:
        assert (engine.data / "engine.json").stat().st_mode & 0o777 == 0o600
        assert engine.data.stat().st_mode & 0o777 == 0o700
