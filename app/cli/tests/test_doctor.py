"""`fleek doctor` as a user runs it."""

import asyncio
import json

import pytest
from typer.testing import CliRunner

from app.cli.checks import doctor
from app.cli.main import app
from app.core.config import Settings
from tests.fleek_cli import NOWHERE, Up, fleek
from tests.support import environment_of, worker

CHECKS = ["database", "migrations", "broker", "worker", "clock", "workers", "store", "providers"]


def setting(document, name):
    (found,) = [line for line in document["settings"] if line["name"] == name]
    return found["value"], found["source"]


def check(document, name):
    (found,) = [line for line in document["checks"] if line["name"] == name]
    return found


def test_doctor_reports_unreachable_engines_and_hides_secrets(tmp_path):
    done = fleek("doctor", folder=tmp_path, AWS_SECRET_ACCESS_KEY="s3cret", **NOWHERE)
    assert done.returncode == 1
    assert done.stderr == ""
    assert "s3cret" not in done.stdout
    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.strip()}
    assert lines["DATABASE_URL"] == ["postgresql://me:***@127.0.0.1:1/fleek", "environment"]
    assert lines["REDIS_URL"] == ["redis://:***@127.0.0.1:1/0", "environment"]
    assert lines["AWS_SECRET_ACCESS_KEY"] == ["***", "environment"]
    assert lines["DEFAULT_MODEL"] == ["dummy/painter", "default"]
    assert {name.upper() for name in Settings.model_fields} <= lines.keys()
    for name in set(CHECKS) - {"providers", "clock", "workers"}:
        assert f"  FAIL  {name:<12}" in done.stdout
    assert done.stdout.count("                    -> ") == 5
    assert "5 of 8 checks failed." in done.stdout
    assert "To start everything on this machine, run `fleek up`." in done.stdout
    assert not (tmp_path / ".fleek").exists()


def test_doctor_names_the_source_of_each_setting(tmp_path):
    (tmp_path / ".env").write_text("MAX_TRIES=2\nWORKER_SLOTS=3\nLEASE_SECONDS=4\nPROJECT_NAME=\n")
    (tmp_path / ".env.local").write_text("WORKER_SLOTS=30\nLEASE_SECONDS=40\n")
    done = fleek("doctor", "--json", folder=tmp_path, LEASE_SECONDS="400", **NOWHERE)
    document = json.loads(done.stdout)
    assert setting(document, "MAX_TRIES") == (2, ".env")
    assert setting(document, "WORKER_SLOTS") == (30, ".env.local")
    assert setting(document, "LEASE_SECONDS") == (400, "environment")
    assert setting(document, "PROJECT_NAME") == ("Fleek", "default")
    assert setting(document, "SENTRY_DSN") == (None, "default")
    assert document["ok"] is False
    assert [line["name"] for line in document["checks"]] == CHECKS


def test_doctor_notes_the_defaults_of_fleek_up(tmp_path):
    notes = json.loads(fleek("doctor", "--json", folder=tmp_path, **NOWHERE).stdout)["notes"]
    decided = fleek(
        "doctor", "--json", folder=tmp_path, ALLOW_PRIVATE_ADDRESSES="false", SHUTDOWN_SECONDS="9", **NOWHERE
    )

    assert any(note.startswith("ALLOW_PRIVATE_ADDRESSES is not set: `fleek up` uses true, unless") for note in notes)
    assert any(note.startswith("SHUTDOWN_SECONDS is not set: `fleek up` uses 5") for note in notes)
    assert json.loads(decided.stdout)["notes"] == []


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_doctor_reports_an_invalid_setting_in_one_line(option, tmp_path):
    done = fleek("doctor", *option, folder=tmp_path, MAX_TRIES="many")
    assert done.returncode == 1
    output = done.stdout if option else done.stderr
    assert output.count("\n") == 1
    assert "MAX_TRIES: Input should be a valid integer" in output
    assert bool(option) == bool(done.stdout)


async def test_doctor_gives_a_hint_for_a_failed_check(settings, tmp_path):
    environment = environment_of(settings, BUCKET_NAME="not-there")
    with worker(settings, tmp_path / "worker.log"):
        done = fleek("doctor", "--json", folder=tmp_path, **environment)
    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert document["ok"] is False
    assert document["running_instance"] is None
    assert [name for name in CHECKS if not check(document, name)["ok"]] == ["store"]
    assert "BUCKET_NAME" in check(document, "store")["hint"]


async def test_doctor_detects_that_no_worker_answers(settings, tmp_path):
    done = fleek("doctor", folder=tmp_path, **environment_of(settings))
    assert done.returncode == 1
    assert "FAIL  worker" in done.stdout
    assert "1 of 8 checks failed." in done.stdout
    assert done.stderr == ""


async def test_doctor_timeout_excludes_the_start_of_the_process(settings, tmp_path, monkeypatch):
    probing = "'app.cli.checks.probe_all' in sys.orig_argv"
    (tmp_path / "sitecustomize.py").write_text(f"import sys, time\nif {probing}:\n    time.sleep(5)\n")
    monkeypatch.setattr(doctor, "PROBE_SECONDS", 4)
    monkeypatch.chdir(tmp_path)
    for name, value in environment_of(settings, PYTHONPATH=str(tmp_path)).items():
        monkeypatch.setenv(name, value)

    with worker(settings, tmp_path / "worker.log"):
        done = await asyncio.to_thread(CliRunner().invoke, app, ["doctor", "--json"])

    assert [line["name"] for line in json.loads(done.stdout)["checks"] if not line["ok"]] == []


def test_doctor_finds_a_running_fleek_up_by_its_data_folder(settings, tmp_path):
    with Up(tmp_path, "--data", "elsewhere", **environment_of(settings)) as up:
        up.ready()
        done = fleek("doctor", "--data", "elsewhere", folder=tmp_path, **NOWHERE)
        assert done.returncode == 0, done.stdout
        assert "`fleek up` is running in elsewhere: its addresses are used." in done.stdout
        assert "All checks passed." in done.stdout
        document = json.loads(fleek("doctor", "--json", "--data", "elsewhere", folder=tmp_path).stdout)
        assert document["running_instance"] == "elsewhere"
        assert document["ok"] is True
        assert setting(document, "DATABASE_URL")[1] == "elsewhere/env"
        up.process.kill()
        up.process.wait()
        # its file is still there, but the folder is no longer locked
        assert (tmp_path / "elsewhere" / "env").exists()
        document = json.loads(fleek("doctor", "--json", "--data", "elsewhere", folder=tmp_path, **NOWHERE).stdout)
        assert document["running_instance"] is None
        assert setting(document, "DATABASE_URL") == (NOWHERE["DATABASE_URL"].replace("s3cret", "***"), "environment")
