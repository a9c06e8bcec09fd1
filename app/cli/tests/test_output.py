"""What commands print: help, passwords, verdicts, durations."""

import re

import pytest

from app.cli.console import one_line, verdict, without_passwords
from app.cli.tables import parse_duration, short_duration
from app.embedded.errors import EngineStartError
from tests.fleek_cli import fleek


def test_version_help_and_unknown_commands(tmp_path):
    assert re.fullmatch(r"fleek \d+\.\d+\.\d+\n", fleek("--version", folder=tmp_path).stdout)
    output = fleek("--help", folder=tmp_path).stdout
    assert "up" in output
    assert "doctor" in output
    unknown = fleek("dwon", folder=tmp_path)
    assert unknown.returncode == 2
    assert "No such command 'dwon'" in unknown.stderr


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:p/w:d@x@host:1/db", "postgresql://me:***@host:1/db"),
        ("redis://:secret@host/0", "redis://:***@host/0"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("postgresql://me@host/db?password=x&sslmode=require", "postgresql://me@host/db?password=***&sslmode=require"),
    ],
)
def test_passwords_are_not_shown(address, shown):
    assert without_passwords(address) == shown


def test_verdict_is_the_line_that_names_the_error():
    output = "Traceback:\n  File x\nsqlalchemy.exc.ProgrammingError: no such table\n[SQL: ...]\n(Background on this)\n"
    assert verdict(output) == "sqlalchemy.exc.ProgrammingError: no such table"
    assert verdict("app.X.SettingsError: no\n\nERROR:    Application startup failed.\n") == "app.X.SettingsError: no"
    assert one_line(EngineStartError("X", "it ended", "a\nFATAL:  b")) == "X did not start: it ended: FATAL:  b"


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1.5d", 129_600)])
def test_durations_are_parsed_and_formatted(text, seconds):
    assert parse_duration(text).total_seconds() == seconds
    assert parse_duration(short_duration(parse_duration(text))).total_seconds() == pytest.approx(seconds, rel=0.4)
