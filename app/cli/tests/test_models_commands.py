"""`fleek models`: list, show, and refresh of the catalogue file."""

import json
from datetime import timedelta
from decimal import Decimal

import pytest
from typer.testing import CliRunner

from app.cli.errors import CommandError
from app.cli.main import app as cli
from app.cli.models import refresh as models_refreshed
from app.media_generator.catalogue import read_catalogue
from app.media_generator.errors import BusyError, ModelGoneError
from app.media_generator.model_card import ModelStatus, Price, PriceUnit
from app.media_generator.registry import Registry
from tests.providers.catalogue import SOME_DAY, Shop, card, catalogue_file


class RefreshableShop(Shop):
    """Its provider answers `refresh` as the test sets it."""

    def __init__(self, *cards):
        super().__init__(*cards)
        self.answers = {}

    async def refresh(self, card):
        answer = self.answers.get(card.name, card)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_refresh_writes_provider_changes_into_the_catalogue_file(tmp_path):
    file = catalogue_file(tmp_path, '# by hand\n[models."shop/one"]\nprice = { amount = "1" } # a secret\n')
    shop = RefreshableShop(card("one"), card("two"), card("three"), card("four"))
    dearer = Price(Decimal("0.5"), PriceUnit.SECOND)
    shop.answers = {
        "one": card("one", price=dearer, time_limit=timedelta(minutes=2), retired_at=SOME_DAY),
        "two": ModelGoneError("404"),
        "three": BusyError("429"),
    }

    changes, silent = await models_refreshed.fetch_changes(Registry([shop]).offers())
    models_refreshed.write_changes(file, changes)

    entries = read_catalogue(file).entries
    assert silent == {"shop/three": "429"}
    assert sorted(entries) == ["shop/one", "shop/two"]
    assert entries["shop/one"].apply(card("one")) == shop.answers["one"]
    assert entries["shop/two"].status is ModelStatus.RETIRED
    assert file.read_text().startswith("# by hand")
    assert [path.name for path in tmp_path.iterdir()] == ["catalogue.toml"]


async def test_refresh_leaves_an_invalid_file_unchanged(tmp_path):
    file = catalogue_file(tmp_path, "[strange]\n")

    with pytest.raises(CommandError, match="was not changed"):
        models_refreshed.write_changes(file, {"shop/one": {"title": "x"}})

    assert file.read_text() == "[strange]\n"


def test_models_are_listed_and_shown(tmp_path, monkeypatch):
    file = catalogue_file(tmp_path, '[models."dummy/faulty"]\nhidden = true\n')
    monkeypatch.setenv("CATALOGUE_FILE", str(file))

    listed = json.loads(CliRunner().invoke(cli, ["models", "list", "--json"]).output)["items"]
    shown = CliRunner().invoke(cli, ["models", "show", "dummy/painter"]).output

    assert {model["name"]: model["hidden"] for model in listed if model["name"].startswith("dummy/")} == {
        "dummy/faulty": True,
        "dummy/painter": False,
    }
    assert "Procedural painter" in shown


@pytest.mark.parametrize("group", [[], ["models"], ["jobs"], ["db"], ["store"]])
def test_command_group_without_command_shows_its_help(group):
    result = CliRunner().invoke(cli, group)

    assert result.exit_code == 0
    assert "Usage:" in result.output
    assert "Commands" in result.output
