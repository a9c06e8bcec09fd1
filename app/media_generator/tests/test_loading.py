"""Loading providers: entry points, broken plug-ins."""

from importlib.metadata import EntryPoint, EntryPoints

from app.media_generator import loading


def test_broken_plug_in_is_reported_and_the_others_are_loaded(monkeypatch):
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


def test_dummy_provider_is_installed_as_an_entry_point():
    assert "dummy" in loading.load_registry().providers
