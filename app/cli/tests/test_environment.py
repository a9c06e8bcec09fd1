"""The environment of the processes of `fleek up`."""

import pytest

from app.cli.environment import addresses, children_environment, read_env_file, write_env_file
from app.core.config import Settings


def test_real_postgres_server_overrides_database_url_of_a_file():
    settings = Settings(
        _env_file=None, database_url="postgresql://a:b@file/c", postgres_server="db", postgres_user="me"
    )
    real = {
        "POSTGRES_SERVER": "db",
        "REDIS_URL": "redis://r/0",
        "S3_ENDPOINT_URL": "https://s3",
        "PUBLIC_URL": "https://p",
    }
    found = addresses(real, {}, settings, "http://127.0.0.1:8000")
    assert found["DATABASE_URL"] == "postgresql://me:fleek@db:5469/fleek"
    assert found["S3_PUBLIC_URL"] == "https://s3"
    assert found["PUBLIC_URL"] == "https://p"
    assert found["BROKER_URL"] == "redis://r/0"
    assert addresses({**real, "BROKER_URL": "amqp://b//"}, {}, settings, "")["BROKER_URL"] == "amqp://b//"


def test_children_do_not_inherit_misleading_variables(monkeypatch):
    settings = Settings(_env_file=None)
    for name in ("AWS_SESSION_TOKEN", "RESULT_BACKEND", "CELERY_BROKER_URL", "UVICORN_RELOAD", "database_url", "KEPT"):
        monkeypatch.setenv(name, "theirs")
    mine = children_environment({"DATABASE_URL": "ours"}, settings, own_s3=True, exposed=False)
    assert "theirs" not in {value for name, value in mine.items() if name != "KEPT"}
    assert mine["KEPT"] == "theirs"
    assert mine["DATABASE_URL"] == "ours"
    assert children_environment({}, settings, own_s3=False, exposed=False)["AWS_SESSION_TOKEN"] == "theirs"


def test_private_addresses_are_allowed_while_the_api_is_local(monkeypatch):
    monkeypatch.delenv("ALLOW_PRIVATE_ADDRESSES", raising=False)
    settings = Settings(_env_file=None)

    mine = children_environment({}, settings, own_s3=True, exposed=False)
    assert mine["ALLOW_PRIVATE_ADDRESSES"] == "true"
    assert "ALLOW_PRIVATE_ADDRESSES" not in children_environment({}, settings, own_s3=True, exposed=True)


@pytest.mark.parametrize(("said", "exposed"), [("false", False), ("true", True)])
def test_user_setting_of_private_addresses_wins(monkeypatch, said, exposed):
    monkeypatch.setenv("ALLOW_PRIVATE_ADDRESSES", said)

    mine = children_environment({}, Settings(_env_file=None), own_s3=True, exposed=exposed)

    assert mine["ALLOW_PRIVATE_ADDRESSES"] == said


def test_env_file_keeps_every_character(tmp_path):
    values = {"A": 'p$w#d "x" \\n ${A}', "B": 'it\'s "so" \\ here', "C": ""}
    write_env_file(tmp_path / "env", values)
    assert read_env_file(tmp_path / "env") == values
