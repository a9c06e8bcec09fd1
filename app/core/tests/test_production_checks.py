"""What ENVIRONMENT=production refuses, and what it must accept."""

import pytest

from app.core import production_checks
from app.core.config import Settings
from app.core.errors import SettingsError
from app.core.load_settings import load_settings
from tests.fleek_cli import bare_environment, fleek
from tests.fork_server import fork_server

SOUND = {
    "ENVIRONMENT": "production",
    "PUBLIC_URL": "https://media.example.com",
    "POSTGRES_PASSWORD": "correct-horse",
    "REDIS_URL": "redis://:battery@redis.internal:6379/0",
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "staple",
    "S3_ENDPOINT_URL": "aws",
}
DEFAULTS = {"ENVIRONMENT": "production"}
EVERY_DEFAULT = ("POSTGRES_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PUBLIC_URL", "S3_PUBLIC_URL")


@pytest.fixture
def read(monkeypatch, tmp_path):
    """Reads the settings of an environment that has nothing else."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)

    def from_environment(variables) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return load_settings()

    return from_environment


def test_sound_settings_raise_no_caution(read):
    assert production_checks.cautions(read(SOUND)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"DATABASE_URL": "postgresql://me:secret@db/fleek", "POSTGRES_PASSWORD": ""},
        {"DATABASE_URL": "postgresql://me@db/fleek", "POSTGRES_PASSWORD": "fleek"},
        {"REDIS_URL": "redis://redis.internal:6379/0"},
        {"REDIS_URL": "redis://127.0.0.1:6379/0"},
        {"BROKER_URL": "amqps://me:secret@rabbit.internal/fleek"},
        {"S3_ENDPOINT_URL": "http://s3:4566", "S3_PUBLIC_URL": "https://files.example.com"},
        {"PUBLIC_URL": "http://10.1.2.3:8000"},
        {"BUCKET_NAME": "fleek-media", "POSTGRES_USER": "fleek"},
        {"BACKEND_CORS_ORIGINS": "https://app.example.com", "ALLOWED_HOSTS": "fleek-api,*.internal"},
    ],
)
def test_unusual_but_valid_setting_is_accepted(read, change):
    assert read(SOUND | change).environment == "production"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"POSTGRES_PASSWORD": ""}, "POSTGRES_PASSWORD"),
        ({"DATABASE_URL": "postgresql://fleek:fleek@db/fleek"}, "DATABASE_URL"),
        ({"AWS_ACCESS_KEY_ID": "fleek"}, "AWS_ACCESS_KEY_ID"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, "AWS_SECRET_ACCESS_KEY"),
        ({"REDIS_URL": "redis://:fleek@redis/0"}, "REDIS_URL"),
        ({"BROKER_URL": "amqp://rabbit//"}, "BROKER_URL"),
        ({"BROKER_URL": "amqp://guest:guest@rabbit//"}, "BROKER_URL"),
        ({"PUBLIC_URL": ""}, "PUBLIC_URL"),
        ({"PUBLIC_URL": "http://localhost:8000"}, "PUBLIC_URL"),
        ({"PUBLIC_URL": "http://[::1]:8000"}, "PUBLIC_URL"),
        ({"ALLOW_PRIVATE_ADDRESSES": "true"}, "ALLOW_PRIVATE_ADDRESSES"),
        ({"S3_ENDPOINT_URL": ""}, "S3_PUBLIC_URL"),
        ({"S3_PUBLIC_URL": "http://0.0.0.0:4566"}, "S3_PUBLIC_URL"),
    ],
)
def test_default_secret_or_unreachable_address_is_refused(read, change, named):
    with pytest.raises(SettingsError, match=named) as refused:
        read(SOUND | change)

    assert refused.value.detail.startswith("not fit for ENVIRONMENT=production: ")
    assert ";" not in refused.value.detail, "the other settings are sound"
    assert not [value for value in change.values() if len(value) > 4 and value in refused.value.detail]


@pytest.mark.parametrize("origins", ["*", "https://app.example.com,*", "null"])
def test_no_other_page_may_use_the_api_in_production(read, origins):
    with pytest.raises(SettingsError, match="BACKEND_CORS_ORIGINS"):
        read(SOUND | {"BACKEND_CORS_ORIGINS": origins})


def test_one_error_names_every_invalid_setting(read):
    with pytest.raises(SettingsError) as refused:
        read(DEFAULTS)

    for name in EVERY_DEFAULT:
        assert name in refused.value.detail


def test_defaults_are_accepted_outside_production(read):
    assert read({"ENVIRONMENT": "staging"}).public_url == "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"REDIS_URL": "redis://redis.internal/0"}, "REDIS_URL"),
        ({"PUBLIC_URL": "http://media.example"}, "PUBLIC_URL"),
        ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS"),
    ],
)
def test_risky_setting_raises_a_caution(read, change, named):
    (caution,) = production_checks.cautions(read(SOUND | change))

    assert named in caution


@pytest.mark.parametrize(
    "program",
    [
        ("uvicorn", "app.main:app", "--port", "1"),
        ("celery", "-A", "app.tasks.celery", "worker"),
        ("app.cli.main", "prepare"),
        ("app.cli.main", "doctor"),
    ],
    ids=lambda program: program[-1],
)
def test_every_program_refuses_to_start_with_one_line(program, tmp_path):
    surroundings = bare_environment(tmp_path) | DEFAULTS
    done = fork_server().run(program, environment=surroundings, folder=tmp_path, timeout=60)

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("fleek: invalid setting: not fit for ENVIRONMENT=production: ")
    for name in EVERY_DEFAULT:
        assert name in line


def test_doctor_prints_the_cautions(tmp_path):
    sound = SOUND | {"S3_ENDPOINT_URL": "http://127.0.0.1:1", "S3_PUBLIC_URL": "https://files.example.com"}
    nowhere = {"REDIS_URL": "redis://:battery@127.0.0.1:1/0", "DATABASE_URL": "postgresql://me:secret@127.0.0.1:1/x"}
    done = fleek("doctor", folder=tmp_path, **sound | nowhere | {"PUBLIC_URL": "http://media.example.com"})

    assert "  note  PUBLIC_URL begins with http://" in done.stdout
