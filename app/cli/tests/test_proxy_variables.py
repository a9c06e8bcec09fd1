"""`fleek up` and the commands beside it where the environment names proxies that lead nowhere."""

import subprocess
import sys
from collections.abc import Generator

import pytest

from tests.fleek_cli import Up, bare_environment, fleek

NOWHERE = "http://me:p4ssw0rd-of-the-Proxy@127.0.0.1:9"
PROXIES = {
    **{name: NOWHERE for upper in ("HTTP_PROXY", "HTTPS_PROXY") for name in (upper, upper.lower())},
    **dict.fromkeys(("ALL_PROXY", "all_proxy"), "socks5://127.0.0.1:9"),
}


@pytest.fixture(scope="module")
def up(tmp_path_factory) -> Generator[Up]:
    with Up(tmp_path_factory.mktemp("up"), **PROXIES) as running:
        yield running.ready()


def test_picture_is_generated_stored_and_read(up):
    assert up.content(up.completed(up.generate())).startswith(b"\x89PNG")


@pytest.mark.parametrize("command", [("doctor",), ("store", "check"), ("db", "check"), ("jobs", "list")])
def test_command_reaches_the_engines(up, command):
    done = fleek(*command, folder=up.folder, **PROXIES)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "p4ssw0rd" not in done.stdout + done.stderr


def test_listen_hears_of_a_job(up):
    command = [sys.executable, "-P", "-m", "app.cli.main", "listen", "--json"]
    environment = bare_environment(up.folder) | PROXIES
    with subprocess.Popen(
        command, cwd=up.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as listening:
        try:
            assert any("connected" in line for line in listening.stderr)
            media = up.generate()
            assert any(media["job_id"] in line for line in listening.stdout)
        finally:
            listening.kill()
