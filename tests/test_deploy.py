"""Manifests, units and the page on deployment agree with the product. Schemas of a cluster are checked by hand."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from app.core import production_checks
from app.core.config import Settings
from app.core.http_server.allowed_hosts import AllowedHosts
from app.main import create_app
from tests.test_compose import document, seconds

ROOT = Path(__file__).resolve().parents[1]
KUBERNETES = ROOT / "deploy" / "kubernetes"
QUADLET = ROOT / "deploy" / "quadlet"
PAGE = ROOT / "docs" / "how-to" / "deploy.md"

SETTINGS = {name.upper() for name in Settings.model_fields}
SECRETS = {name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)} | {
    "AWS_ACCESS_KEY_ID"
}
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = document("docker-compose.yml")["services"]
ENGINES = document("docker-compose.services.yml")["services"]
GIVEN = {
    "DATABASE_URL": "postgresql://fleek:correct@db/fleek",
    "REDIS_URL": "redis://:horse@redis/0",
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "staple",
}
"""What an operator has to add, as secrets."""
NO_SETTINGS = {
    *("POSTGRES_INITDB_ARGS", "FORWARDED_ALLOW_IPS", "UVICORN_PORT", "COMPOSE_PROJECT_NAME"),
    *("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE"),
}
"""Variables of others that may be named."""

MANIFESTS = {
    path: [one for one in yaml.safe_load_all(path.read_text()) if one] for path in sorted(KUBERNETES.rglob("*.yaml"))
}
OBJECTS = [one for path, found in MANIFESTS.items() for one in found if path.name != "kustomization.yaml"]
WORKLOADS = {one["metadata"]["name"]: one for one in OBJECTS if one["kind"] in {"Deployment", "Job"}}
UNITS = sorted([*QUADLET.glob("*.container"), *QUADLET.glob("*.network"), *QUADLET.glob("*.volume")])
GENERATOR = Path("/usr/libexec/podman/quadlet")
OURS = sorted(QUADLET.glob("fleek-[amw]*.container"))


def container(workload):
    (found,) = workload["spec"]["template"]["spec"]["containers"]
    return found


def literals(path):
    """The settings that a kustomization gives."""
    (kustomization,) = MANIFESTS[path / "kustomization.yaml"]
    pairs = [pair.split("=", 1) for one in kustomization.get("configMapGenerator", []) for pair in one["literals"]]
    return dict(pairs)


def unit(path):
    """All values of each key, by section."""
    sections, current = {}, {}
    for line in path.read_text().splitlines():
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, value = line.split("=", 1)
            current.setdefault(key, []).append(value)
    return sections


def env_file(path):
    return dict(re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE))


def serves(variables):
    """The faults of these settings in production."""
    settings = Settings(_env_file=None, **{name.lower(): value for name, value in variables.items()})
    assert settings.environment == "production"
    return production_checks.problems(settings)


def paths_of_the_api():
    return set(create_app(Settings(_env_file=None)).openapi()["paths"])


# Kubernetes


def test_every_file_is_part_of_a_kustomization():
    for path, (kustomization, *_) in MANIFESTS.items():
        if path.name == "kustomization.yaml":
            listed = {path.parent / entry for entry in kustomization["resources"]}
            assert all(entry.exists() for entry in listed), path
            beside = set(path.parent.glob("*.yaml")) - {path}
            assert beside == {entry for entry in listed if entry.suffix == ".yaml"}
            assert all(
                (path.parent / entry / "kustomization.yaml").exists() for entry in kustomization.get("components", [])
            )


def test_the_example_serves_in_production_once_it_has_its_secrets():
    base, example = literals(KUBERNETES / "base"), literals(KUBERNETES / "overlays/example")

    assert set(base | example) <= SETTINGS
    assert not set(base | example) & SECRETS
    assert serves(base | example | GIVEN) == []
    assert serves(base | GIVEN) != [], "the overlay has to say where clients reach it"


def test_no_file_holds_a_secret():
    assert "Secret" not in {one["kind"] for one in OBJECTS}
    for path in [*KUBERNETES.rglob("*"), *QUADLET.iterdir()]:
        if path.is_file():
            for name in SECRETS - {"REDIS_URL"}:
                assert not re.search(rf"^\s*(?:- )?{name}\s*[=:]", path.read_text(), re.MULTILINE), (path, name)


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_a_pod_has_no_rights_it_does_not_need(name):
    pod = WORKLOADS[name]["spec"]["template"]["spec"]
    inside = container(WORKLOADS[name])
    uid, gid = map(int, re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE).groups())

    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": uid,
        "runAsGroup": gid,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert inside["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert [mount["mountPath"] for mount in inside["volumeMounts"]] == ["/tmp"]  # as compose's tmpfs


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_a_pod_gets_settings_and_memory_and_no_limit_of_cpu(name):
    inside = container(WORKLOADS[name])

    assert inside["envFrom"] == [{"configMapRef": {"name": "fleek-settings"}}, {"secretRef": {"name": "fleek-secrets"}}]
    assert set(inside["resources"]["requests"]) == {"cpu", "memory"}
    assert set(inside["resources"]["limits"]) == {"memory"}


def test_pods_run_what_the_compose_file_runs():
    commands = {name: container(one).get("command") for name, one in WORKLOADS.items()}

    assert commands == {
        "fleek-migrate": COMPOSE["migrate"]["command"],
        "fleek-worker": COMPOSE["celery"]["command"],
        "fleek-api": None,  # the image's own, likewise
    }
    assert "command" not in COMPOSE["api"]
    assert {container(one)["image"] for one in WORKLOADS.values()} == {"fleek"}


def test_probes_ask_what_there_is():
    api, worker = container(WORKLOADS["fleek-api"]), container(WORKLOADS["fleek-worker"])
    (port,) = api["ports"]

    assert f"EXPOSE {port['containerPort']}" in DOCKERFILE
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert api[probe]["httpGet"]["path"] in paths_of_the_api()
        assert api[probe]["httpGet"]["port"] == port["name"]
    assert worker["readinessProbe"]["exec"]["command"] == COMPOSE["celery"]["healthcheck"]["test"][1:]
    assert "livenessProbe" not in worker


def test_an_outage_of_others_takes_no_api_out_of_service():
    api = container(WORKLOADS["fleek-api"])

    assert api["readinessProbe"]["httpGet"]["path"] == api["livenessProbe"]["httpGet"]["path"] == "/tools/status"


def test_pods_have_the_time_to_stop():
    patience = float(literals(KUBERNETES / "base")["SHUTDOWN_SECONDS"])
    graceful = int(re.search(r'"--timeout-graceful-shutdown", "(\d+)"', DOCKERFILE)[1])
    worker, api = (WORKLOADS[name]["spec"]["template"]["spec"] for name in ("fleek-worker", "fleek-api"))
    quiet = int(container(WORKLOADS["fleek-api"])["lifecycle"]["preStop"]["exec"]["command"][1])

    assert worker["terminationGracePeriodSeconds"] >= 2 * patience + 15
    assert api["terminationGracePeriodSeconds"] >= quiet + graceful + 10


def test_whoever_names_a_workload_names_one_that_is_there():
    labels = {
        name: one["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]
        for name, one in WORKLOADS.items()
    }
    selected = {
        one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
        for one in OBJECTS
        if one["kind"] == "PodDisruptionBudget"
    }
    scaled = {
        one["spec"]["scaleTargetRef"]["name"]
        for one in OBJECTS
        if "scaleTargetRef" in one["spec" if "spec" in one else "metadata"]
    }
    (service,) = [one for one in OBJECTS if one["kind"] == "Service"]
    (route,) = [one for one in OBJECTS if one["kind"] == "HTTPRoute"]

    assert selected == {labels["fleek-api"], labels["fleek-worker"]}
    assert scaled == {"fleek-api", "fleek-worker"}
    assert service["spec"]["selector"]["app.kubernetes.io/component"] == labels["fleek-api"]
    for rule in route["spec"]["rules"]:
        assert rule["backendRefs"] == [
            {"name": service["metadata"]["name"], "port": service["spec"]["ports"][0]["port"]}
        ]
        exact = {match["path"]["value"] for match in rule["matches"] if match["path"]["type"] == "Exact"}
        assert exact <= paths_of_the_api()


def test_the_autoscaler_asks_for_numbers_that_are_told():
    (scaled,) = [one for one in OBJECTS if one["kind"] == "ScaledObject"]
    told = {f"fleek_{name}" for name in re.findall(r'"(?:fleek_)?(\w+)"', (ROOT / "app/tools/metrics.py").read_text())}

    for trigger in scaled["spec"]["triggers"]:
        names = set(re.findall(r"fleek_\w+", trigger["metadata"]["query"]))
        assert names
        assert names <= told


def test_the_images_of_the_examples_are_of_this_version():
    (example,) = MANIFESTS[KUBERNETES / "overlays/example/kustomization.yaml"]

    assert [image["newTag"] for image in example["images"]] == [VERSION]
    for path in OURS:
        assert unit(path)["Container"]["Image"] == [f"localhost/fleek:{VERSION}"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_builds_the_example():
    done = subprocess.run(
        ["kubectl", "kustomize", str(KUBERNETES / "overlays/example")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    built = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(done.stdout)}
    settings = next(name for kind, name in built if kind == "ConfigMap")

    worker = built["Deployment", "fleek-worker"]
    assert container(worker)["image"] == f"registry.example.com/fleek:{VERSION}"
    assert container(worker)["envFrom"][0] == {"configMapRef": {"name": settings}}
    assert "replicas" not in worker["spec"], "KEDA says how many"


# Quadlet


def test_units_name_what_is_there():
    files = {path.name for path in UNITS}
    services = {path.name.replace(".container", ".service") for path in QUADLET.glob("*.container")}
    for path in QUADLET.glob("*.container"):
        sections = unit(path)
        mounted = [value.partition(":")[0] for value in sections["Container"].get("Volume", [])]
        assert {*sections["Container"]["Network"], *mounted} <= files
        wanted = {
            name
            for key in ("Requires", "Wants", "After")
            for value in sections["Unit"].get(key, [])
            for name in value.split()
        }
        assert wanted <= services


def test_units_run_the_images_and_commands_of_the_compose_files():
    for name, service in (("postgres", "postgres"), ("valkey", "valkey"), ("s3", "s3")):
        inside = unit(QUADLET / f"fleek-{name}.container")["Container"]
        assert inside["Image"][0].removeprefix("docker.io/").removeprefix("library/") == ENGINES[service]["image"]
        assert inside["Exec"][0].split() == ENGINES[service]["command"]
    commands = {path.name: unit(path)["Container"].get("Exec", [None])[0] for path in OURS}
    assert commands == {
        "fleek-api.container": None,
        "fleek-migrate.container": " ".join(COMPOSE["migrate"]["command"]),
        "fleek-worker@.container": " ".join(COMPOSE["celery"]["command"]),
    }


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_a_unit_of_ours_has_its_secrets_and_no_rights(path):
    inside = unit(path)["Container"]
    targets = {re.search(r"target=(\w+)", secret)[1] for secret in inside["Secret"]}

    assert targets == {"POSTGRES_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert [inside[key] for key in ("ReadOnly", "DropCapability", "NoNewPrivileges", "Tmpfs")] == [
        ["true"],
        ["ALL"],
        ["true"],
        ["/tmp"],
    ]


def test_the_settings_of_the_units_serve_in_production():
    given = env_file(QUADLET / "fleek.env.example")
    secrets = {"POSTGRES_PASSWORD": "correct", "AWS_ACCESS_KEY_ID": "horse", "AWS_SECRET_ACCESS_KEY": "staple"}

    assert set(given) <= SETTINGS
    assert urlsplit(given["REDIS_URL"]).password is None
    assert serves(given | secrets) == []


def test_whatever_is_in_the_same_network_may_call_the_api_by_its_name():
    (given,) = re.findall(r"^ALLOWED_HOSTS=(.*)$", (ROOT / ".env").read_text(), re.MULTILINE)
    (unit_name,) = unit(QUADLET / "fleek-api.container")["Container"]["ContainerName"]
    in_cluster = [f"fleek-api{more}" for more in ("", ".fleek", ".fleek.svc", ".fleek.svc.cluster.local")]
    names = {
        given: [name for name, service in document("docker-compose.yml")["services"].items() if name == "api"],
        env_file(QUADLET / "fleek.env.example")["ALLOWED_HOSTS"]: [unit_name],
        literals(KUBERNETES / "base")["ALLOWED_HOSTS"]: ["fleek-api"],
        literals(KUBERNETES / "overlays" / "example")["ALLOWED_HOSTS"]: in_cluster,
    }

    for allowed, hosts in names.items():
        accepts = AllowedHosts(Settings(_env_file=None, allowed_hosts=allowed)).accepts
        assert hosts
        assert [host for host in hosts if not accepts(f"{host}:8000".encode())] == []


def test_units_have_the_time_to_stop():
    patience = float(env_file(QUADLET / "fleek.env.example")["SHUTDOWN_SECONDS"])
    for path in QUADLET.glob("*.container"):
        sections = unit(path)
        if sections["Service"].get("Type") != ["oneshot"]:
            # Podman kills after ten seconds where a unit does not say how long a container has
            (inner,), (outer,) = sections["Container"]["StopTimeout"], sections["Service"]["TimeoutStopSec"]
            assert int(outer) >= int(inner) + 10
            assert "worker" not in path.name or int(inner) >= 2 * patience + 15
    for name, service in ENGINES.items():
        inside = unit(QUADLET / f"fleek-{name}.container")["Container"]
        assert int(inside["StopTimeout"][0]) == seconds(service["stop_grace_period"])


def test_ports_of_units_are_open_to_this_machine_only():
    ports = [port for path in UNITS for port in unit(path).get("Container", {}).get("PublishPort", [])]

    assert sorted(ports) == ["127.0.0.1:4566:4566", "127.0.0.1:8000:8000"]


@pytest.mark.skipif(not GENERATOR.exists(), reason="Podman 5 is not installed")
def test_podman_takes_the_units():
    done = subprocess.run(
        [GENERATOR, "-dryrun"], env={"QUADLET_UNIT_DIRS": str(QUADLET)}, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^---fleek-.*\.service---$", done.stdout, re.MULTILINE)) == len(UNITS)


# Amazon, and the page


def test_the_policy_allows_what_the_store_does_and_nothing_else():
    policy = json.loads((ROOT / "deploy/aws/policy.json").read_text())
    allowed = {one["Sid"]: one["Action"] for one in policy["Statement"]}
    does = (ROOT / "app/storage/s3.py").read_text()

    # One for each call: put (in parts, too), signed GET, HEAD of the bucket. Nothing deletes media.
    media = ["s3:PutObject", "s3:AbortMultipartUpload", "s3:GetObject"]
    assert 'sign(self._signer, "GET"' in does
    assert 'sign(self._objects, "HEAD", ""' in does
    assert allowed == {
        "WriteAndSign": media,
        "InputFilesAndRawAnswers": [*media, "s3:DeleteObject"],
        "FleekStoreCheck": [*media, "s3:DeleteObject"],
        "SeeThatTheBucketIsThere": "s3:ListBucket",
    }
    deletes = [path for path in (ROOT / "app").rglob("*.py") if re.search(r"store\.delete\(", path.read_text())]
    known = {"testing.py", "bucket.py", "raw_answers.py", "service.py"}
    assert {path.name for path in deletes} == known, "then the policy needs more"


def test_every_setting_that_the_page_names_exists():
    named = set(re.findall(r"\b([A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+)\b", PAGE.read_text()))

    assert named
    assert named - SETTINGS - NO_SETTINGS == set()


def test_the_page_names_what_production_demands():
    text = PAGE.read_text()
    settings = Settings(_env_file=None, environment="production")
    demanded = {
        name
        for fault in production_checks.problems(settings)
        for name in re.findall(r"[A-Z0-9]+(?:_[A-Z0-9]+)+", fault)
    }

    assert demanded
    assert [name for name in demanded if f"`{name}`" not in text and name not in text] == []


def test_files_that_the_page_names_exist():
    for name in re.findall(r"`(deploy/[\w./@-]+)`", PAGE.read_text()):
        assert (ROOT / name).exists(), name
