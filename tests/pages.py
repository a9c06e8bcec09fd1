"""What tests take out of the pages of docs/how-to and run."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

HOW_TO = Path(__file__).resolve().parents[1] / "docs" / "how-to"
API = "http://127.0.0.1:8000"
"""As the pages write it."""


def blocks(page: str, language: str) -> list[str]:
    """The code of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", (HOW_TO / page).read_text(), re.DOTALL)


def curl_lines(page: str) -> list[str]:
    """Every command of a page that begins with curl."""
    commands = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [command for command in commands if command.startswith("curl ")]


def curl(command: str, instead: Mapping[str, str]) -> str:
    """Run a line of a page, with other words for some of its own; what it prints. A status from 400 on fails."""
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    for word, value in instead.items():
        command = command.replace(word, value)
    done = subprocess.run(
        ["bash", "-c", command.replace("curl ", "curl -S --fail-with-body ", 1)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout
