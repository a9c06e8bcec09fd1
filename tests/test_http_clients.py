"""No client of ours asks this machine through a proxy of the environment: the rule for every client there is."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path
    for folder in ("app", "tests", "bench", "scripts")
    for path in (ROOT / folder).rglob("*.py")
    if "node_modules" not in path.parts
)
OPENER = "app/core/this_machine.py"
ELSEWHERE = {"app/core/telemetry/otel.py": "requests"}
"""Modules that may use another client, because they tell it about this machine themselves."""
READ_THE_ENVIRONMENT = {"httpx", "requests", "urllib3", "boto3", "botocore", "aiobotocore", "websockets", "pycurl"}
"""Libraries that take their proxies from the environment."""


def faults(source, name="app/some.py"):
    """What in a source makes, or may make, calls through the environment's proxies; line by line."""
    tree = ast.parse(source)
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    }
    found = [f"imports {library}" for library in sorted(imported & READ_THE_ENVIRONMENT - {ELSEWHERE.get(name)})]
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        called = ast.unparse(call.func)
        options = {option.arg: ast.unparse(option.value) for option in call.keywords}
        last = called.rpartition(".")[2]
        if called.startswith("httpx2.") and last in {"Client", "AsyncClient"} and "transport" not in options:
            if options.get("trust_env") != "False":
                found.append(f"{call.lineno}: {called} without trust_env=False")
        elif called.startswith("httpx2.") and last in {"get", "post", "put", "head", "request", "stream", "delete"}:
            found.append(f"{call.lineno}: {called}")
        elif last == "ClientSession" and options.get("trust_env", "False") != "False":
            found.append(f"{call.lineno}: {called} with trust_env")
        elif last in {"urlopen", "build_opener", "urlretrieve"} and name != OPENER:
            found.append(f"{call.lineno}: {called}; use this_machine.opener")
        elif last in {"S3Store", "ObstoreS3"} and "region" in options and "proxy_" not in source:
            found.append(f"{call.lineno}: {called} without proxy_excludes")
    return found


def test_every_client_asks_this_machine_directly():
    found = {str(path.relative_to(ROOT)): faults(path.read_text(), str(path.relative_to(ROOT))) for path in FILES}

    assert len(found) > 600
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import httpx2\nhttpx2.AsyncClient(base_url='x')",
        "import httpx2\nhttpx2.Client(trust_env=True)",
        "import httpx2\nhttpx2.get('x')",
        "import aiohttp\naiohttp.ClientSession(trust_env=True)",
        "import urllib.request\nurllib.request.urlopen('x')",
        "from urllib.request import urlopen\nurlopen('x')",
        "import requests",
        "from botocore.session import Session",
        "S3Store('bucket', region='x', endpoint='y')",
    ],
)
def test_the_rule_finds_each_kind_of_client(source):
    assert faults(source)
