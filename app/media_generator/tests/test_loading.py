"""Loading providers: entry points, broken plug-ins."""

from importlib.metadata import EntryPoint, EntryPoints

from app.media_generator import loading


def test_a_broken_plug_in_is_reported_and_the_others_serve_on(monkeypatch):
    good = EntryPoint(
        "dummy", "app.media_generator.dummy_media_generator.provider:DummyMediaGeneratorModel", loading.PROVIDERS
    )
    gone = EntryPoint("gone", "no.such.module:Provider", loading.PROVIDERS)
    odd = EntryPoint("odd", "builtins:object", loading.PROVIDERS)
    monkeypatch.setattr(loading, "entry_points", lambda: EntryPoints([good, gone, odd]))

    loaded = loading.load_registry()

    assert set(loaded.providers) == {"dummy"}
    assert set(loaded.load_errors) == {"gone", "odd"}
    assert "ModuleNotFoundError" in loaded.load_errors["gone"]


def test_the_installed_entry_point_leads_to_the_dummy_provider():
    assert "dummy" in loading.load_registry().providers
