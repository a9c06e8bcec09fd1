"""The operator's catalogue file: what it may say of models, and what the registry makes of it."""

from datetime import timedelta
from decimal import Decimal

import pytest

from app.core.errors import SettingsError
from app.media_generator.catalogue import read_catalogue
from app.media_generator.loading import ProviderConfig, load_registry
from app.media_generator.model_card import Price, PriceUnit
from tests.providers.catalogue import SOME_DAY, catalogue_file


def test_operator_file_changes_only_the_named_fields(tmp_path):
    file = catalogue_file(
        tmp_path,
        """
        [models."dummy/painter"]
        price = { amount = "0.003", per = "megapixel" }
        retired_at = 2999-01-01
        time_limit = 60
        aliases = ["easel"]
        [models."dummy/faulty"]
        hidden = true
        """,
    )

    registry = load_registry(ProviderConfig(catalogue=read_catalogue(file)))

    (painter,) = (offer for offer in registry.offers() if offer.provider.name == "dummy")
    assert painter.full_name == "dummy/painter"
    assert painter.card.price == Price(Decimal("0.003"), PriceUnit.MEGAPIXEL)
    assert (painter.card.time_limit, painter.card.retired_at) == (timedelta(minutes=1), SOME_DAY)
    assert painter.card.title == "Procedural painter"
    assert registry.resolve("easel") is registry.find("dummy/painter")
    assert registry.find("dummy/faulty").hidden
    with pytest.raises(LookupError):
        registry.resolve("dummy/faulty")


def test_operator_model_is_listed_for_its_account(tmp_path):
    file = catalogue_file(
        tmp_path,
        """
        [models."lab/own/thing"]
        output_types = ["image/png"]
        input_schema = { type = "object", properties = { size = { type = "integer" } } }
        options = { address = "10.0.0.7" }
        [models."lab/half"]
        title = "a change of something that its adapter knows"
        """,
    )
    catalogue = read_catalogue(file)

    (own,) = catalogue.models("dummy", "lab")

    assert (own.name, own.title, own.options) == ("own/thing", "own/thing", {"address": "10.0.0.7"})
    assert list(catalogue.models("dummy", "other")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models = ", "is not valid TOML"),
        ("[model]", "has an unknown table 'model'"),
        ("models = 3", "must be written like"),
        ('[models."painter"]', 'models."painter"]: the name must look like'),
        ('[models."dummy/painter"]\nstate = "x"', 'models."dummy/painter"]: Object contains unknown field `state`'),
        ('[models."dummy/painter"]\nstatus = "sold"', 'models."dummy/painter"] status: Invalid enum value'),
        ('[models."dummy/painter"]\nprice = {amount = "-1"}', "price.amount: must be 0 or more"),
        ('[models."dummy/painter"]\nprice = {amount = 1, unit = "run"}', "price: unknown field 'unit'"),
        ('[models."dummy/painter"]\nprice = {amount = 1, per = "pound"}', "price.per: Invalid enum value"),
        ('[models."dummy/painter"]\ntime_limit = 0', "time_limit: must be seconds"),
        ('[models."dummy/painter"]\ninput_schema = {type = 3}', "input_schema: is not a valid JSON Schema"),
        ('[models."dummy/painter"]\ninput_schema = {type = "string"}', "input_schema: must be of type"),
        ('[[routes]]\nname = "portrait"\ntargets = [{model = "a/b"}]', "name: must look like route/name"),
        ('[[routes]]\nname = "route/a"\ntargets = []', "route/a targets: name at least one"),
        (
            '[[routes]]\nname = "route/a"\ntargets = [{model = "a/b"}, {model = "a/b"}]',
            "each model may appear only once",
        ),
        ('[[routes]]\nname = "route/a"\ntargets = [{model = "route/b"}]', "route/b is a route itself"),
        ('[[routes]]\nname = "route/a"\ntargets = [{model = "a/b", constants = {}}]', "unknown field `constants`"),
    ],
)
def test_invalid_file_is_named_with_entry_and_field(tmp_path, text, message):
    file = catalogue_file(tmp_path, text)

    with pytest.raises(SettingsError) as refused:
        read_catalogue(file)

    assert message in refused.value.detail
    assert str(file) in refused.value.detail


def test_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"nowhere\.toml"):
        read_catalogue(tmp_path / "nowhere.toml")


async def test_operator_schema_defaults_apply_to_adapter_models(tmp_path):
    file = catalogue_file(
        tmp_path,
        """
        [models."dummy/painter"]
        input_schema = { type = "object", properties = { mood = { default = "calm" }, width = { default = 320 } } }
        """,
    )
    painter = load_registry(ProviderConfig(catalogue=read_catalogue(file))).find("dummy/painter")

    complete = painter.complete({"width": 640})

    assert (complete["mood"], complete["width"]) == ("calm", 640)
    assert painter.complete({})["width"] == 320
    assert {"seed", "height"} <= complete.keys()
