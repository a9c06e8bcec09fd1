"""`fleek new-provider`: the skeleton passes every rule as written, and works once it is installed."""

import importlib
import re
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints

import pytest
from typer.testing import CliRunner

from app.cli.errors import WrongUsageError
from app.cli.main import app
from app.media_generator import loading
from fleek.testing import open_http


def write(folder, name="acme-labs"):
    return CliRunner().invoke(app, ["new-provider", name, "--folder", str(folder)])


@pytest.fixture
def skeleton(tmp_path):
    result = write(tmp_path / "new")
    assert result.exit_code == 0, result.output
    return tmp_path / "new"


def test_skeleton_passes_its_own_tests(skeleton):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:valkey", "--rootdir", "."]
    run = subprocess.run(command, cwd=skeleton, capture_output=True, text=True, timeout=100, check=False)

    assert run.returncode == 0, run.stdout
    assert re.search(r"^30 passed", run.stdout, re.MULTILINE), run.stdout


async def test_skeleton_generates_media_once_configured(skeleton, monkeypatch, client, working):
    for folder in (skeleton, skeleton / "tests"):
        monkeypatch.syspath_prepend(str(folder))
    entry = EntryPoint("acme-labs", "fleek_acme_labs.provider:AcmeLabsMediaGeneratorModel", loading.SERVICES)
    monkeypatch.setattr(loading, "entry_points", lambda: EntryPoints([entry]))
    async with importlib.import_module("server").Server() as server, open_http() as http:
        plan = loading.ProviderConfig({"ACME_LABS_BASE_URL": server.url, "ACME_LABS_API_KEY": "secret"})
        loaded = loading.load_registry(plan, http)
        provider = loaded.providers["acme-labs"]
        client.api._transport.app.state.runtime.registry._offers.update(loaded._offers)
        await working(provider)

        done = await client.until(await client.generate(model="acme-labs/image"))

    assert loaded.load_errors == {}
    assert (done["status"], done["files"][0]["media_type"], len(server.sold)) == ("COMPLETED", "image/png", 1)


def test_provider_without_an_account_is_not_loaded(monkeypatch):
    entry = EntryPoint("acme-labs", "no.such.module:Provider", loading.SERVICES)
    monkeypatch.setattr(loading, "entry_points", lambda: EntryPoints([entry]))

    assert loading.load_registry(loading.ProviderConfig({"ACME_LABS_REGION": "eu"})).load_errors == {}
    assert set(loading.load_registry(loading.ProviderConfig({"ACME_LABS_API_KEY": "x"})).load_errors) == {"acme-labs"}


def test_further_accounts_have_their_own_names_and_settings(skeleton, monkeypatch):
    monkeypatch.syspath_prepend(str(skeleton))
    entry = EntryPoint("acme-labs", "fleek_acme_labs.provider:AcmeLabsMediaGeneratorModel", loading.SERVICES)
    monkeypatch.setattr(loading, "entry_points", lambda: EntryPoints([entry]))
    variables = {"ACME_LABS_API_KEY": "one", "ACME_EU_API_KEY": "two", "ACME_EU_SUBMIT_SECONDS": "soon"}

    loaded = loading.load_registry(loading.ProviderConfig(variables, {"acme-eu": "acme-labs", "other": "nothing"}))

    assert [offer.full_name for offer in loaded.offers()] == ["acme-labs/image"]
    assert "ACME_EU_SUBMIT_SECONDS" in loaded.load_errors["acme-eu"]
    assert "no kind of provider 'nothing'" in loaded.load_errors["other"]


@pytest.mark.parametrize("name", ["Acme", "acme_labs", "-acme", "acme--labs", "1acme", "", "a/b"])
def test_invalid_name_writes_nothing(tmp_path, name):
    result = write(tmp_path / "new", name)

    assert isinstance(result.exception, WrongUsageError) or result.exit_code == 2
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["dummy", "openai", "route"])
def test_taken_name_writes_nothing(tmp_path, name):
    result = write(tmp_path / "new", name)

    assert str(result.exception) == f"{name!r} is taken: of two providers with the same name only one would be loaded"
    assert not (tmp_path / "new").exists()


def test_existing_files_are_not_overwritten(skeleton):
    before = (skeleton / "pyproject.toml").read_text()

    result = write(skeleton, "other")

    assert isinstance(result.exception, WrongUsageError)
    assert (skeleton / "pyproject.toml").read_text() == before
