"""`fleek new-provider`: what it writes keeps every rule as it is, and works in the product once it is installed."""

import importlib
import re
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints

import pytest
from typer.testing import CliRunner

from app.cli.errors import WrongUsageError
from app.cli.main import app
from app.media.errors import UnknownModelInRequestError
from app.media.intake.submit import find_model
from app.media_generator import loading
from fleek.testing import open_http


def write(folder, name="acme-labs"):
    return CliRunner().invoke(app, ["new-provider", name, "--folder", str(folder)])


@pytest.fixture
def skeleton(tmp_path):
    result = write(tmp_path / "new")
    assert result.exit_code == 0, result.output
    return tmp_path / "new"


def test_it_passes_its_own_tests(skeleton):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:valkey", "--rootdir", "."]
    run = subprocess.run(command, cwd=skeleton, capture_output=True, text=True, timeout=100, check=False)

    assert run.returncode == 0, run.stdout
    assert re.search(r"^25 passed", run.stdout, re.MULTILINE), run.stdout


async def test_an_account_of_it_generates_media(skeleton, monkeypatch, client, working):
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


def test_without_an_account_it_is_not_even_loaded(monkeypatch):
    entry = EntryPoint("acme-labs", "no.such.module:Provider", loading.SERVICES)
    monkeypatch.setattr(loading, "entry_points", lambda: EntryPoints([entry]))

    assert loading.load_registry(loading.ProviderConfig({"ACME_LABS_REGION": "eu"})).load_errors == {}
    assert set(loading.load_registry(loading.ProviderConfig({"ACME_LABS_API_KEY": "x"})).load_errors) == {"acme-labs"}


def test_further_accounts_have_names_and_settings_of_their_own(skeleton, monkeypatch):
    monkeypatch.syspath_prepend(str(skeleton))
    entry = EntryPoint("acme-labs", "fleek_acme_labs.provider:AcmeLabsMediaGeneratorModel", loading.SERVICES)
    monkeypatch.setattr(loading, "entry_points", lambda: EntryPoints([entry]))
    variables = {"ACME_LABS_API_KEY": "one", "ACME_EU_API_KEY": "two", "ACME_EU_SUBMIT_SECONDS": "soon"}

    loaded = loading.load_registry(loading.ProviderConfig(variables, {"acme-eu": "acme-labs", "other": "nothing"}))

    assert [offer.full_name for offer in loaded.offers()] == ["acme-labs/image"]
    assert "ACME_EU_SUBMIT_SECONDS" in loaded.load_errors["acme-eu"]
    assert "no kind of provider 'nothing'" in loaded.load_errors["other"]


@pytest.mark.parametrize("name", ["Acme", "acme_labs", "-acme", "acme--labs", "1acme", "", "a/b"])
def test_a_name_that_cannot_be_one_writes_nothing(tmp_path, name):
    result = write(tmp_path / "new", name)

    assert isinstance(result.exception, WrongUsageError) or result.exit_code == 2
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["dummy", "openai", "route"])
def test_a_name_that_is_taken_writes_nothing(tmp_path, name):
    result = write(tmp_path / "new", name)

    assert str(result.exception) == f"{name!r} is taken: of two providers of one name only one would be loaded"
    assert not (tmp_path / "new").exists()


def test_nothing_is_written_over(skeleton):
    before = (skeleton / "pyproject.toml").read_text()

    result = write(skeleton, "other")

    assert isinstance(result.exception, WrongUsageError)
    assert (skeleton / "pyproject.toml").read_text() == before


async def test_a_provider_that_is_not_set_up_says_what_to_set(api):
    body = {"prompt": "x", "model": "replicate/black-forest-labs/flux-schnell"}

    answer = await api.post("/media/generate", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_model")
    assert "set REPLICATE_API_TOKEN and start" in answer.json()["detail"]


def test_a_name_that_is_like_none_is_not_answered_with_all_of_them():
    registry = loading.load_registry(loading.ProviderConfig({"FAL_KEY": "x"}))

    with pytest.raises(UnknownModelInRequestError, match="GET /models") as refused:
        find_model(registry, "xyz")

    assert "fal/" not in refused.value.detail


def test_a_provider_that_cannot_be_loaded_says_where_the_reason_is():
    registry = loading.load_registry(loading.ProviderConfig({"COG_API_KEY": "x"}))

    with pytest.raises(UnknownModelInRequestError, match="/tools/ready"):
        find_model(registry, "cog/model")

    assert "COG_BASE_URL" in registry.load_errors["cog"]
