"""The scripts that start and initialise the system run the command that they name, from any folder."""

import os
import subprocess
import sys

import pytest

from tests.support import ROOT

COMMANDS = {"init.sh": "prepare", "start.sh": "up", "start_api.sh": "serve", "start_worker.sh": "worker"}


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)


@pytest.fixture
def path_with_uv(tmp_path):
    """A PATH whose `uv run fleek ...` uses this environment: the real one would resolve and download."""
    uv = tmp_path / "uv"
    uv.write_text(f'#!/bin/sh\n[ "$1 $2" = "run fleek" ] && shift 2 && exec {sys.executable} -m app.cli.main "$@"\n')
    uv.chmod(0o755)
    return f"{tmp_path}:{os.environ['PATH']}"


def test_every_shell_script_is_listed_here():
    assert {path.name for path in (ROOT / "scripts").glob("*.sh")} == set(COMMANDS)


@pytest.mark.parametrize("script", COMMANDS)
def test_script_has_valid_syntax_and_is_executable(script):
    path = ROOT / "scripts" / script

    assert run("bash", "-n", path).stderr == ""
    assert os.access(path, os.X_OK)


@pytest.mark.parametrize(("script", "command"), COMMANDS.items())
def test_script_passes_its_options_to_the_command(script, command, path_with_uv, tmp_path):
    shown = run(ROOT / "scripts" / script, "--help", cwd=tmp_path, env={**os.environ, "PATH": path_with_uv})

    assert shown.returncode == 0, shown.stderr
    assert f" {command} [OPTIONS]" in shown.stdout


def test_script_without_uv_says_what_to_install(tmp_path):
    for program in ("bash", "dirname"):
        (tmp_path / program).symlink_to(f"/usr/bin/{program}")

    shown = run(ROOT / "scripts" / "start.sh", env={"PATH": str(tmp_path)})

    assert (shown.returncode, shown.stderr) == (2, "uv is missing: pip install uv\n")


def test_contributing_lists_every_script():
    page = (ROOT / "CONTRIBUTING.md").read_text()

    assert [script for script in COMMANDS if f"scripts/{script}" not in page] == []
