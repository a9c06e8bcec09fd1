"""`fleek jobs`: usage errors, an unreachable database, shell completion."""

import subprocess
import sys
from uuid import UUID

import pytest

from app.cli.environment import read_env_file, write_env_file
from app.embedded.lock import DataFolderLock
from app.jobs.states import MediaStatus
from tests.fleek_cli import NOWHERE, bare_environment, fleek
from tests.support import environment_of


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["cancel"], "say which jobs to cancel: give ids, or filter options such as --status or --model"),
        (["cancel", str(UUID(int=7)), "--model", "a/b"], "give either ids or filter options, not both"),
        (["cancel", "--status", "ERROR"], "--status ERROR: only IN_QUEUE and PROCESSING can be canceled"),
        (["list", "--older-than", "soon"], "'soon' is not a duration; write it like 90s, 15m, 2h or 1d"),
        (["pause", "dummy/paintr"], "there is no model or provider 'dummy/paintr'; did you mean dummy/painter"),
    ],
)
async def test_usage_error_is_one_line(cli, arguments, says):
    done = await cli("jobs", *arguments)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"fleek: {says}")


def test_unreachable_database_is_one_line_with_a_hint(tmp_path):
    done = fleek("jobs", "list", folder=tmp_path, **NOWHERE)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "fleek: the database does not answer (ConnectionRefusedError): "
        "is PostgreSQL running, and are DATABASE_URL or POSTGRES_* correct?\n"
    )


def test_instance_with_another_data_folder_is_named_with_the_way_to_it(settings, tmp_path):
    data = tmp_path / "else where"
    with DataFolderLock(data):
        write_env_file(data / "env", environment_of(settings))
        beside = fleek("jobs", "list", "--limit", "3", folder=tmp_path)
        led = fleek("jobs", "list", folder=tmp_path, **read_env_file(data / "env"))
    ended = fleek("jobs", "list", folder=tmp_path)

    way = "lead it there with `uv run --env-file '{}/env' fleek jobs list --limit 3`"
    assert f"`fleek up` is running in 'else where', and this command does not use it; {way.format('else where')}" in (
        beside.stderr
    )
    assert (led.returncode, led.stdout, led.stderr) == (0, "No jobs match.\n", "")
    assert "else where" not in ended.stderr


def test_command_that_finds_no_database_says_how_to_lead_it_to_a_data_folder(tmp_path):
    (tmp_path / ".env").write_text("\n".join(f"{name}={value}" for name, value in NOWHERE.items()))

    done = fleek("jobs", "list", folder=tmp_path)

    assert done.returncode == 1
    assert (
        "If `fleek up --data FOLDER` is running, lead it there with `uv run --env-file FOLDER/env fleek jobs list`."
        in (done.stderr)
    )


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("fleek jobs list --status ", list(MediaStatus)),
        ("fleek jobs list --status pro", ["PROCESSING"]),
        ("fleek jobs pause dummy/", ["dummy/faulty", "dummy/painter"]),
        ("fleek jobs p", ["pause"]),
    ],
)
def test_shell_completes_statuses_and_models(line, offered, tmp_path):
    words = line.split()
    number = len(words) if line.endswith(" ") else len(words) - 1
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import sys; sys.argv = ['fleek']; from app.cli.main import main; main()"],
        cwd=tmp_path,
        env=bare_environment(tmp_path)
        | {"_FLEEK_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(number)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.stdout.split(), done.stderr) == (offered, "")
