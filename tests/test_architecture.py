"""House rules as code: budgets, one writer of `status`, one sentence at the top of every module."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = [
    path for folder in ("app", "fleek") for path in sorted((ROOT / folder).rglob("*.py")) if "tests" not in path.parts
]
MODULE_LINES = 500
FUNCTION_LINES = 50
WRITES_STATUS = re.compile(r"(UPDATE\s+(media|attempts)\b|INSERT\s+INTO\s+(media|attempts)\b)", re.IGNORECASE)


def name(path):
    return str(path.relative_to(ROOT))


WRITING = ("statements", "claim", "late_statements", "stop_statements", "shelf_statements", "route_statements")
"""Modules of app/media with the SQL of transitions.py and late.py."""
NOTING = ("signing_keys",)
"""Modules of app/media that write down at an attempt what is no status."""


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_fits_on_a_few_screens(path):
    assert len(path.read_text().splitlines()) <= MODULE_LINES


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_function_fits_on_one_screen(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < FUNCTION_LINES, f"{node.name} has more than {FUNCTION_LINES} lines"


@pytest.mark.parametrize("path", [path for path in MODULES if path.read_text().strip()], ids=name)
def test_a_module_opens_with_a_sentence(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))

    assert docstring, "say in one sentence what lives here"
    assert re.search(r"[.:]", docstring.splitlines()[0] + docstring), "a sentence ends with a full stop"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_only_transitions_write_media_and_attempts(path):
    if path.stem in (*WRITING, *NOTING):
        return
    texts = [
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert not [text for text in texts if WRITES_STATUS.search(text)]


def test_the_rule_about_writing_status_would_catch_a_breach():
    assert WRITES_STATUS.search("update media set status = 'COMPLETED'")
    assert WRITES_STATUS.search("INSERT INTO attempts (id) VALUES (1)")
    assert not WRITES_STATUS.search("SELECT status FROM media")
    assert not WRITES_STATUS.search("INSERT INTO media_history (id) VALUES (1)")


def test_every_package_of_the_product_has_a_place_in_the_layers():
    contracts = (ROOT / "pyproject.toml").read_text()

    for path in sorted((ROOT / "app").iterdir()):
        if path.name not in {"__init__.py", "__pycache__"}:
            assert re.search(rf"\b{path.stem}\b", contracts.partition('containers = ["app"]')[2])


def test_no_address_of_a_machine_or_a_registry_is_committed():
    for path in [ROOT / "pyproject.toml", *ROOT.glob("docs/**/*.md"), ROOT / "README.md"]:
        assert not re.search(r"pypi\.org/simple|/root/|/home/\w+/", path.read_text()), path


def test_only_transitions_run_the_statements_that_write_a_status():
    importing = re.compile(rf"import .*\b({'|'.join(WRITING)})\b")
    importers = [name(path) for path in MODULES if importing.search(path.read_text())]

    assert importers == ["app/jobs/transitions/late_attempts.py", "app/jobs/transitions/transitions.py"]
