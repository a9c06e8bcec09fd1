"""The promises of the compose files and of the Dockerfile that can be kept without an engine."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from app.core.config import Settings
from app.media_generator.loading import ACCOUNT_VARIABLES

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path.name for path in ROOT.glob("docker-compose*.yml"))
ENV_FILES = (".env", ".env.local.example")

PORTS = {"API_PORT", "POSTGRES_PORT", "REDIS_PORT", "S3_PORT"}
"""Variables of the compose files that move ports on the host."""
OTHERS = {
    "COMPOSE_PROJECT_NAME",  # Compose's own
    "POSTGRES_INITDB_ARGS",  # of the image of PostgreSQL
    "GOMEMLIMIT",  # of programs in Go: SeaweedFS
    "SERVICES",  # of LocalStack, like the next two
    "EAGER_SERVICE_LOADING",
    "DISABLE_EVENTS",
}
SETTINGS = {name.upper() for name in Settings.model_fields}
USED = re.compile(r"(?<!\$)\$\{(\w+)")


class Loader(yaml.SafeLoader):
    """Reads Compose's own tags, too."""


def _value_of(loader, _tag, node):
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else None


Loader.add_multi_constructor("!", _value_of)


def document(file):
    return yaml.load((ROOT / file).read_text(), Loader)


def every_service():
    return [
        pytest.param(service, id=f"{file}:{name}")
        for file in FILES
        for name, service in document(file)["services"].items()
    ]


def seconds(duration):
    assert re.fullmatch(r"(\d+m)?(\d+s)?", duration)
    return sum(int(number) * {"m": 60, "s": 1}[unit] for number, unit in re.findall(r"(\d+)([ms])", duration))


def variables(file):
    return re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", (ROOT / file).read_text(), re.MULTILINE)


def test_the_files_are_there():
    assert FILES == ["docker-compose.localstack.yml", "docker-compose.services.yml", "docker-compose.yml"]


@pytest.mark.parametrize("file", ENV_FILES)
def test_every_variable_of_an_env_file_is_a_setting(file):
    assert variables(file)
    of_providers = {name for name in variables(file) if name.endswith(ACCOUNT_VARIABLES)} | {"COMFYUI_WORKFLOWS"}
    assert set(variables(file)) <= SETTINGS | of_providers


@pytest.mark.parametrize("file", FILES)
def test_every_variable_that_is_filled_in_is_a_setting_or_a_port(file):
    assert set(USED.findall((ROOT / file).read_text())) <= SETTINGS | PORTS | OTHERS


@pytest.mark.parametrize("file", [*FILES, ".env"])
def test_every_variable_that_is_filled_in_has_a_default(file):
    assert not re.search(r"(?<!\$)\$\{\w+\}", (ROOT / file).read_text())


@pytest.mark.parametrize("service", every_service())
def test_every_variable_that_a_container_gets_is_a_setting(service):
    assert set(service.get("environment", {})) <= SETTINGS | OTHERS


@pytest.mark.parametrize("service", every_service())
def test_ports_are_open_to_this_machine_only(service):
    for port in service.get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{(\w+):-(\d+)\}:\d+", port), port
        assert re.search(r"\$\{(\w+)", port)[1] in PORTS


def test_the_ports_are_those_of_the_documentation_and_of_the_env_file():
    found = {}
    for file in FILES:
        for service in document(file)["services"].values():
            found |= dict(re.findall(r"\$\{(\w+):-(\d+)\}", " ".join(service.get("ports", []))))

    assert found == {"API_PORT": "8000", "POSTGRES_PORT": "5469", "REDIS_PORT": "6834", "S3_PORT": "4566"}
    for name, port in found.items():
        assert re.search(rf"\$\{{{name}:-{port}\}}|^{name}={port}$", (ROOT / ".env").read_text(), re.MULTILINE)


@pytest.mark.parametrize("service", every_service())
def test_images_of_others_are_pinned_to_a_release(service):
    if "build" not in service:
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+(\.\d+)?(-[\w.]+)?", service["image"]), service["image"]


@pytest.mark.parametrize("service", every_service())
def test_two_checkouts_can_run_side_by_side(service):
    assert "container_name" not in service
    assert "build" not in service or "COMPOSE_PROJECT_NAME" in service["image"]


@pytest.mark.parametrize("file", FILES)
def test_no_name_is_shared_between_projects(file):
    text = document(file)

    assert "name" not in text
    assert not [volume for volume in (text.get("volumes") or {}).values() if volume]


@pytest.mark.parametrize("service", every_service())
def test_nothing_limits_cpus_the_machine_may_not_have(service):
    assert not {"cpus", "deploy"} & set(service)


@pytest.mark.parametrize("service", every_service())
def test_what_runs_is_asked_for_its_health(service):
    if service.get("restart") != "no":
        assert {"test", "interval", "timeout", "start_period"} <= set(service["healthcheck"])


def test_data_lies_in_named_volumes():
    text = document("docker-compose.services.yml")

    for service in text["services"].values():
        (mount,) = service["volumes"]
        assert mount.partition(":")[0] in text["volumes"]


def test_postgresql_is_asked_by_tcp_and_mounted_where_its_image_wants_it():
    postgres = document("docker-compose.services.yml")["services"]["postgres"]

    assert postgres["image"].startswith("postgres:18")
    assert postgres["volumes"] == ["postgres:/var/lib/postgresql"]
    assert "127.0.0.1" in postgres["healthcheck"]["test"]


def test_a_worker_is_not_killed_while_it_ends_what_costs_money():
    celery = document("docker-compose.yml")["services"]["celery"]
    patience = float(celery["environment"]["SHUTDOWN_SECONDS"])

    assert patience >= Settings.model_fields["shutdown_seconds"].default
    # once for the claim that is under way, once for purchases; the rest is for connections
    assert seconds(celery["stop_grace_period"]) >= 2 * patience + 15


def test_the_api_is_not_killed_while_it_answers():
    api = document("docker-compose.yml")["services"]["api"]
    patience = re.search(r'"--timeout-graceful-shutdown", "(\d+)"', (ROOT / "Dockerfile").read_text())

    assert seconds(api["stop_grace_period"]) > int(patience[1])


def test_who_needs_schema_and_bucket_waits_for_them():
    services = document("docker-compose.yml")["services"]

    for name in ("api", "celery"):
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert set(services["migrate"]["depends_on"]) == {"postgres", "s3"}


def test_our_containers_have_no_rights_they_do_not_need():
    for service in document("docker-compose.yml")["services"].values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_override_replaces_the_s3_server_and_nothing_else():
    override = document("docker-compose.localstack.yml")["services"]

    assert set(override) == {"s3"}
    assert override["s3"]["image"] == "localstack/localstack:4.14.0", "later ones want an account"
    assert "ports" not in override["s3"]


def test_the_image_starts_programs_without_a_shell_and_without_root():
    text = (ROOT / "Dockerfile").read_text()
    last = text.rpartition("\nFROM ")[2]

    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", last, re.MULTILINE)
    assert re.findall(r"^\s*CMD (.)", last, re.MULTILINE) == ["[", "["]
    assert not re.search(r"^ENTRYPOINT|curl|wget|apt-get", last, re.MULTILINE)
    assert not text.startswith("# syntax")
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"astral/uv:${UV}", "python:${PYTHON}-slim-trixie"}
    assert re.search(r"^ARG UV=\d+\.\d+\.\d+$", text, re.MULTILINE)


def test_the_image_names_the_version_of_the_project():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert f"ARG VERSION={version}\n" in (ROOT / "Dockerfile").read_text()


def test_the_image_gets_the_code_and_nothing_else():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]

    assert lines[0] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert let_in == {"LICENSE", "README.md", "alembic", "alembic.ini", "app", "fleek", "pyproject.toml"}
