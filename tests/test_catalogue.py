"""The catalogue: what files say of models, what becomes of it in requests, and models that turn out to be gone."""

import json
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import httpx2
import pytest
from typer.testing import CliRunner

from app.cli.errors import CommandError
from app.cli.main import app as cli
from app.cli.models import refresh as models_refreshed
from app.core.errors import SettingsError
from app.jobs.scheduling import model_pauses, pauses
from app.main import create_app
from app.media_generator.catalogue import read_catalogue
from app.media_generator.dummy_media_generator.provider import FAULTY, DummyMediaGeneratorModel
from app.media_generator.errors import BusyError, ModelGoneError
from app.media_generator.loading import Plan, load_registry
from app.media_generator.model_card import ModelStatus, Price, PriceUnit
from app.media_generator.registry import Registry
from tests.support import PUBLIC_URL, eventually

LONG_AGO = date(2020, 1, 1)
SOME_DAY = date(2999, 1, 1)


def written(tmp_path, text):
    file = tmp_path / "catalogue.toml"
    file.write_text(text)
    return file


def nobody(_moved):
    """Nobody wants to know."""


class Shop(DummyMediaGeneratorModel):
    """Sells the cards that it is given."""

    name = "shop"

    def __init__(self, *cards):
        super().__init__()
        self.cards = cards

    def models(self):
        return self.cards

    async def submit(self, submission):
        if submission.model in self.gone:
            raise ModelGoneError("404: no such model")
        return await super().submit(replace(submission, model=FAULTY.name))

    gone: frozenset[str] = frozenset()


def card(name="grey", **changes):
    return replace(FAULTY, name=name, **changes)


@pytest.fixture
async def api_of(settings, bell):
    """A client of an API that sells what it is given."""
    stack = []

    async def start(registry, **changes):
        app = create_app(settings.model_copy(update=changes), bell, registry)
        lifespan = app.router.lifespan_context(app)
        await lifespan.__aenter__()
        client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=PUBLIC_URL)
        stack.append((client, lifespan))
        return client

    yield start
    for client, lifespan in stack:
        await client.aclose()
        await lifespan.__aexit__(None, None, None)


async def asked(api, model, **body):
    return await api.post("/media/generate", json={"prompt": "a", "model": model, **body})


def test_the_operators_file_changes_what_it_names_and_nothing_else(tmp_path):
    file = written(
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

    registry = load_registry(Plan(catalogue=read_catalogue(file)))

    (painter,) = (offer for offer in registry.offers() if offer.provider.name == "dummy")
    assert painter.full_name == "dummy/painter"
    assert painter.card.price == Price(Decimal("0.003"), PriceUnit.MEGAPIXEL)
    assert (painter.card.time_limit, painter.card.retired_at) == (timedelta(minutes=1), SOME_DAY)
    assert painter.card.title == "Procedural painter"
    assert registry.wanted("easel") is registry.find("dummy/painter")
    assert registry.find("dummy/faulty").hidden
    with pytest.raises(LookupError):
        registry.wanted("dummy/faulty")


def test_a_model_that_only_the_operator_knows_reaches_its_account(tmp_path):
    file = written(
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
    ("text", "said"),
    [
        ("models = ", "is no TOML"),
        ("[model]", "has no table 'model'"),
        ("models = 3", "is written like"),
        ('[models."painter"]', 'models."painter"]: the name must look like'),
        ('[models."dummy/painter"]\nstate = "x"', 'models."dummy/painter"]: Object contains unknown field `state`'),
        ('[models."dummy/painter"]\nstatus = "sold"', 'models."dummy/painter"] status: Invalid enum value'),
        ('[models."dummy/painter"]\nprice = {amount = "-1"}', "price.amount: must be 0 or more"),
        ('[models."dummy/painter"]\nprice = {amount = 1, unit = "run"}', "price: there is no field 'unit'"),
        ('[models."dummy/painter"]\nprice = {amount = 1, per = "pound"}', "price.per: Invalid enum value"),
        ('[models."dummy/painter"]\ntime_limit = 0', "time_limit: must be seconds"),
        ('[models."dummy/painter"]\ninput_schema = {type = 3}', "input_schema: is no JSON Schema"),
        ('[models."dummy/painter"]\ninput_schema = {type = "string"}', "input_schema: must be of type"),
        ('[[routes]]\nname = "portrait"\ntargets = [{model = "a/b"}]', "name: must look like route/name"),
        ('[[routes]]\nname = "route/a"\ntargets = []', "route/a targets: name at least one"),
        (
            '[[routes]]\nname = "route/a"\ntargets = [{model = "a/b"}, {model = "a/b"}]',
            "each model may stand there once",
        ),
        ('[[routes]]\nname = "route/a"\ntargets = [{model = "route/b"}]', "route/b is a route itself"),
        ('[[routes]]\nname = "route/a"\ntargets = [{model = "a/b", constants = {}}]', "unknown field `constants`"),
    ],
)
def test_a_file_that_cannot_be_understood_is_named_with_entry_and_field(tmp_path, text, said):
    file = written(tmp_path, text)

    with pytest.raises(SettingsError) as refused:
        read_catalogue(file)

    assert said in refused.value.detail
    assert str(file) in refused.value.detail


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"nowhere\.toml"):
        read_catalogue(tmp_path / "nowhere.toml")


async def test_a_process_does_not_start_with_half_a_catalogue(tmp_path, api_of):
    file = written(tmp_path, "[models.")

    with pytest.raises(SettingsError, match="CATALOGUE_FILE"):
        await api_of(None, catalogue_file=file)


async def test_the_file_reaches_the_api(tmp_path, api_of):
    file = written(tmp_path, '[models."dummy/painter"]\nprice = { amount = "0.01", per = "output" }')
    api = await api_of(None, catalogue_file=file)

    told = (await api.post("/media/estimate", json={"prompt": "a", "input": {"num_outputs": 3}})).json()
    kept = (await api.get("/media")).json()["items"]

    assert told == {
        "model": "dummy/painter",
        "amount": "0.03",
        "currency": "USD",
        "basis": "computed",
        "units": {"output": 3.0},
    }
    assert kept == []


async def test_what_has_no_price_has_no_estimate_and_what_is_wrong_is_refused_alike(api_of):
    api = await api_of(Registry([Shop(card())]))

    told = (await api.post("/media/estimate", json={"prompt": "a", "model": "shop/grey"})).json()
    wrong = await api.post("/media/estimate", json={"prompt": "a", "model": "shop/grey", "input": {"colour": 1}})

    assert told == {"model": "shop/grey", "amount": None, "currency": None, "basis": None, "units": None}
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "input.colour")


async def test_what_was_asked_for_before_a_model_was_retired_is_joined_after_it(api_of):
    body, key = {"prompt": "a", "model": "shop/grey"}, {"Idempotency-Key": "order-17"}
    before = await api_of(Registry([Shop(card())]))
    after = await api_of(Registry([Shop(card(status=ModelStatus.RETIRED), card("new"))]))
    first = await before.post("/media/generate", json=body, headers=key)

    again = await after.post("/media/generate", json=body, headers=key)
    another = await after.post("/media/generate", json={**body, "prompt": "b"}, headers=key)

    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (another.status_code, another.json()["code"]) == (422, "model_retired")


@pytest.mark.parametrize("changes", [{"status": ModelStatus.RETIRED}, {"retired_at": LONG_AGO}])
async def test_a_retired_model_is_refused_with_its_successor(api_of, changes):
    api = await api_of(Registry([Shop(card(successor="shop/new", **changes), card("new"))]))

    refused = await asked(api, "shop/grey")
    shown = (await api.get("/models/shop/grey")).json()

    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (422, "model_retired")
    assert "shop/new" in problem["detail"]
    assert problem["errors"] == [
        {"field": "model", "message": "retired", "given": "shop/grey", "allowed": ["shop/new"]}
    ]
    assert (shown["status"], shown["notice"]) == ("retired", "shop/grey is retired; ask for shop/new")


async def test_a_deprecated_model_works_and_says_what_to_do(api_of):
    old = card(status=ModelStatus.DEPRECATED, retired_at=SOME_DAY, successor="shop/new")
    api = await api_of(Registry([Shop(old)]))

    taken = await asked(api, "shop/grey")
    shown = (await api.get("/models/shop/grey")).json()

    assert taken.status_code == 202
    assert shown["notice"] == "shop/grey is deprecated, and retired from 2999-01-01; ask for shop/new"


async def test_a_request_under_an_alias_is_stored_under_the_real_name(api_of):
    api = await api_of(Registry([Shop(card(aliases=("gpt-image-1",)))]))

    assert (await asked(api, "gpt-image-1")).json()["model"] == "shop/grey"
    assert [media["model"] for media in (await api.get("/media")).json()["items"]] == ["shop/grey"]


async def test_models_are_filtered_searched_and_paged(api_of):
    cards = [
        card("one", title="Quick Grey", output_types=("image/png",)),
        card("two", title="Slow Grey", output_types=("video/mp4",), aliases=("old-two",)),
        card("three", title="Blue", status=ModelStatus.DEPRECATED),
    ]
    api = await api_of(Registry([Shop(*cards), DummyMediaGeneratorModel()]))

    async def names(**wanted):
        answer = (await api.get("/models", params=wanted)).json()
        return [model["name"] for model in answer["items"]], answer["next_cursor"]

    assert await names(provider="shop") == (["shop/one", "shop/three", "shop/two"], None)
    assert await names(provider="shop", output_type="video") == (["shop/two"], None)
    assert await names(provider="shop", output_type="image/png", q="quick") == (["shop/one"], None)
    assert await names(q="OLD-two slow") == (["shop/two"], None)
    assert await names(status="deprecated") == (["shop/three"], None)
    first, cursor = await names(provider="shop", limit=2)
    assert (first, await names(provider="shop", limit=2, cursor=cursor)) == (
        ["shop/one", "shop/three"],
        (["shop/two"], None),
    )
    assert (await api.get("/models", params={"cursor": "%"})).json()["code"] == "invalid_cursor"


async def test_a_model_tells_price_limits_and_capabilities(api_of):
    api = await api_of(Registry([Shop(card(price=Price(Decimal("0.040"), currency="EUR")))]))

    shown = (await api.get("/models/shop/grey")).json()

    assert shown["price"] == {"amount": "0.040", "per": "output", "currency": "EUR"}
    assert (shown["version"], shown["time_limit_seconds"], shown["targets"]) == ("1", 7200.0, None)
    assert shown["capabilities"] == {
        "cancel": True,
        "cancel_stops_billing": True,
        "progress": True,
        "max_outputs": 8,
        "local": False,
    }


async def test_a_model_that_turns_out_to_be_gone_makes_one_problem_and_not_a_stream_of_failed_jobs(api_of, working, db):
    shop = Shop(card(), card("other"))
    shop.gone = frozenset({"grey"})
    api = await api_of(Registry([shop]))
    made = [(await asked(api, "shop/grey")).json() for _ in range(5)]
    await working(shop)

    async def look():
        return [(await api.get(f"/media/{media['id']}")).json() for media in made]

    def settled(seen):
        return all(one["status"] == "ERROR" or one["waiting_for"] for one in seen)

    seen = await eventually(look, settled)
    failed = [one for one in seen if one["status"] == "ERROR"]
    waits = [one for one in seen if one["status"] == "IN_QUEUE"]
    refused = await eventually(lambda: asked(api, "shop/grey"), lambda answer: answer.status_code == 422)
    other = await asked(api, "shop/other")
    ready = (await api.get("/tools/ready")).json()
    metrics = (await api.get("/tools/metrics")).text

    assert [one["error"]["code"] for one in failed] == ["model_gone"]
    assert len(waits) == 4
    assert {one["waiting_for"]["code"] for one in waits} == {"model_gone"}
    assert refused.json()["code"] == "model_gone"
    assert refused.json()["errors"][0]["allowed"]
    assert other.status_code == 202
    assert any("shop/grey is gone" in check["detail"] for check in ready["checks"] if not check["ok"]), ready
    assert 'fleek_model_paused{model="shop/grey",code="model_gone"} 1' in metrics

    shop.gone = frozenset()
    assert await pauses.resume(db, "shop/grey", nobody)

    done = await eventually(look, lambda seen: all(one["status"] in {"COMPLETED", "ERROR"} for one in seen))
    assert sorted(one["status"] for one in done) == ["COMPLETED"] * 4 + ["ERROR"]


class Fresh(Shop):
    """Its provider says what it is told to."""

    def __init__(self, *cards):
        super().__init__(*cards)
        self.said = {}

    async def refresh(self, card):
        answer = self.said.get(card.name, card)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_what_providers_say_today_gets_into_the_operators_file(tmp_path):
    file = written(tmp_path, '# by hand\n[models."shop/one"]\nprice = { amount = "1" } # a secret\n')
    shop = Fresh(card("one"), card("two"), card("three"), card("four"))
    dearer = Price(Decimal("0.5"), PriceUnit.SECOND)
    shop.said = {
        "one": card("one", price=dearer, time_limit=timedelta(minutes=2), retired_at=SOME_DAY),
        "two": ModelGoneError("404"),
        "three": BusyError("429"),
    }

    changes, silent = await models_refreshed.fetch_changes(Registry([shop]).offers())
    models_refreshed.write_changes(file, changes)

    entries = read_catalogue(file).entries
    assert silent == {"shop/three": "429"}
    assert sorted(entries) == ["shop/one", "shop/two"]
    assert entries["shop/one"].apply(card("one")) == shop.said["one"]
    assert entries["shop/two"].status is ModelStatus.RETIRED
    assert file.read_text().startswith("# by hand")
    assert [path.name for path in tmp_path.iterdir()] == ["catalogue.toml"]


async def test_a_file_that_would_not_be_understood_stays_as_it_is(tmp_path):
    file = written(tmp_path, "[strange]\n")

    with pytest.raises(CommandError, match="was not changed"):
        models_refreshed.write_changes(file, {"shop/one": {"title": "x"}})

    assert file.read_text() == "[strange]\n"


def test_models_are_listed_and_shown(tmp_path, monkeypatch):
    file = written(tmp_path, '[models."dummy/faulty"]\nhidden = true\n')
    monkeypatch.setenv("CATALOGUE_FILE", str(file))

    listed = json.loads(CliRunner().invoke(cli, ["models", "list", "--json"]).output)["items"]
    shown = CliRunner().invoke(cli, ["models", "show", "dummy/painter"]).output

    assert {model["name"]: model["hidden"] for model in listed if model["name"].startswith("dummy/")} == {
        "dummy/faulty": True,
        "dummy/painter": False,
    }
    assert "Procedural painter" in shown


async def test_an_operators_pause_is_not_taken_for_a_model_that_is_gone(db):
    await model_pauses.pause(db, "shop/grey", "by hand")

    assert not await model_pauses.pause_gone(db, "shop/grey", "404")

    assert [(row["code"], row["message"]) for row in await model_pauses.paused(db)] == [("paused", "by hand")]


async def test_an_operators_own_schema_fills_its_defaults_for_a_model_of_the_adapter(tmp_path):
    file = written(
        tmp_path,
        """
        [models."dummy/painter"]
        input_schema = { type = "object", properties = { mood = { default = "calm" }, width = { default = 320 } } }
        """,
    )
    painter = load_registry(Plan(catalogue=read_catalogue(file))).find("dummy/painter")

    complete = painter.complete({"width": 640})

    assert (complete["mood"], complete["width"]) == ("calm", 640)
    assert painter.complete({})["width"] == 320
    assert {"seed", "height"} <= complete.keys()


@pytest.mark.parametrize(
    ("kind", "variables"),
    [
        ("replicate", "REPLICATE_API_TOKEN"),
        ("cog", "COG_BASE_URL"),
        ("comfyui", "COMFYUI_BASE_URL and COMFYUI_WORKFLOWS"),
        ("fal", "FAL_KEY"),
        ("openai", "OPENAI_API_KEY"),
    ],
)
async def test_a_provider_that_is_not_set_up_names_the_variables_that_it_needs(settings, bell, kind, variables):
    app = create_app(settings, bell, load_registry())
    transport = httpx2.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url=PUBLIC_URL) as api:
        refused = await api.post("/media/generate", json={"prompt": "a cat", "model": f"{kind}/any"})

    assert refused.status_code == 422
    assert f"not set up here: set {variables} and start" in refused.json()["detail"]


@pytest.mark.parametrize("group", [[], ["models"], ["jobs"], ["db"], ["store"]])
def test_a_group_of_commands_tells_what_there_is(group):
    told = CliRunner().invoke(cli, group)

    assert told.exit_code == 0
    assert "Usage:" in told.output
    assert "Commands" in told.output
