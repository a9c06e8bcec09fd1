"""Where settings come from, how they are parsed, and what an invalid one says."""

import pytest

from app.core.config import ADDRESSES_WITH_SECRETS, Settings
from app.core.errors import SettingsError
from app.core.load_settings import load_settings
from tests.support import ROOT


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path


def test_environment_overrides_env_local_which_overrides_env(empty_folder, monkeypatch):
    (empty_folder / ".env").write_text("PROJECT_NAME=one\nBUCKET_NAME=one\nDEFAULT_MODEL=one/one\n")
    (empty_folder / ".env.local").write_text("BUCKET_NAME=two\nDEFAULT_MODEL=two/two\n")
    monkeypatch.setenv("DEFAULT_MODEL", "three/three")

    settings = load_settings()

    assert (settings.project_name, settings.bucket_name, settings.default_model) == ("one", "two", "three/three")


def test_committed_env_file_works_unchanged(empty_folder):
    (empty_folder / ".env").write_text((ROOT / ".env").read_text())

    settings = load_settings()

    assert settings.database_dsn == "postgresql://fleek:fleek@127.0.0.1:5469/fleek"
    assert settings.backend_cors_origins == []
    assert settings.sentry_dsn is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTGRES_PORT", "many"),
        ("DATABASE_URL", "mysql://x"),
        ("REDIS_URL", "http://x"),
        ("S3_ENDPOINT_URL", "localhost:9000"),
        ("ENVIRONMENT", "moon"),
        ("SIGNED_URL_SECONDS", "5"),
    ],
)
def test_invalid_setting_is_named_in_the_error(empty_folder, monkeypatch, name, value):
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=name):
        load_settings()


def test_database_url_replaces_the_postgres_settings(empty_folder, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql+asyncpg://u:p@h:1/d")

    assert load_settings().database_dsn == "postgresql://u:p@h:1/d"


def test_special_characters_in_the_password_are_escaped_in_the_dsn(empty_folder, monkeypatch):
    monkeypatch.setenv("POSTGRES_PASSWORD", "p@ss:w/rd")

    assert load_settings().database_dsn == "postgresql://fleek:p%40ss%3Aw%2Frd@127.0.0.1:5469/fleek"


def test_cors_origins_are_comma_separated(empty_folder, monkeypatch):
    monkeypatch.setenv("BACKEND_CORS_ORIGINS", "https://a.example, https://b.example/")

    assert load_settings().backend_cors_origins == ["https://a.example", "https://b.example"]


def test_settings_repr_hides_secrets(empty_folder, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")

    assert "very-secret" not in repr(load_settings())


@pytest.mark.parametrize("password", ["s3cr3t@Key-of-mine-123", "a://b:Key-of-mine-123", "//[Key-of-mine-123"])
def test_secret_is_masked_whatever_it_looks_like(empty_folder, monkeypatch, password):
    monkeypatch.setenv("POSTGRES_PASSWORD", password)

    assert password in Settings().secrets


@pytest.mark.parametrize(
    "address",
    [
        "http://me:s3cr3t-Key/9@proxy:3128",
        "me:s3cr3t-Key/9@proxy:3128",
        "http://me:s3cr3t-Key/9@[proxy",
        "http://[proxy",
    ],
)
def test_password_of_a_proxy_is_masked_however_it_is_written(empty_folder, monkeypatch, address):
    monkeypatch.setenv("HTTPS_PROXY", address)

    assert ("s3cr3t-Key/9" in Settings().secrets) == ("@" in address)


def test_each_secret_setting_is_masked_as_a_whole_or_is_an_address():
    """Else a new URL would be masked as a whole only, and its password would show."""
    secret = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}

    assert set(ADDRESSES_WITH_SECRETS) <= secret
    assert not {name for name in secret if name.endswith(("_url", "_dsn", "_proxy"))} - set(ADDRESSES_WITH_SECRETS)
