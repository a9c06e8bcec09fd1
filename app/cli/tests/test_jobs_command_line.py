"""`fleek jobs`: usage errors, an unreachable database, shell completion."""

import subprocess
import sys
from uuid import UUID

import pytest

from app.jobs.states import MediaStatus
from tests.fleek_cli import NOWHERE, bare_environment, fleek


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
