"""House rules as code: budgets, one writer of media and attempts, one sentence at the top of every module."""

import ast
import re
import tomllib

import pytest

from tests.support import ROOT

MODULES = [
    path for folder in ("app", "fleek") for path in sorted((ROOT / folder).rglob("*.py")) if "tests" not in path.parts
]
MODULE_LINES = 500
FUNCTION_LINES = 50
MODULES_IN_A_FOLDER = 15
WRITES_MEDIA_OR_ATTEMPTS = re.compile(
    r"\b(UPDATE(\s+ONLY)?\s+|INSERT\s+INTO\s+|DELETE\s+FROM\s+|MERGE\s+INTO\s+|COPY\s+|TRUNCATE\s+(TABLE\s+)?)"
    r"(media|attempts)\b",
    re.IGNORECASE,
)
TRANSITIONS = ROOT / "app" / "jobs" / "transitions"
CONTRACT_LINES = 10
"""Layers of one package: with more it is two."""


def name(path):
    return str(path.relative_to(ROOT))


def texts_of(path):
    """Every string in a module, f-strings as they are written."""
    source = path.read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield ast.get_source_segment(source, node) or ""


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_module_fits_on_a_few_screens(path):
    assert len(path.read_text().splitlines()) <= MODULE_LINES


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_function_fits_on_one_screen(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < FUNCTION_LINES, f"{node.name} has more than {FUNCTION_LINES} lines"


@pytest.mark.parametrize("path", [path for path in MODULES if path.read_text().strip()], ids=name)
def test_module_opens_with_a_sentence(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))

    assert docstring, "say in one sentence what lives here"
    assert re.search(r"[.:]", docstring.splitlines()[0] + docstring), "a sentence ends with a full stop"


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=name)
def test_folder_holds_few_modules(folder):
    modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]

    assert len(modules) <= MODULES_IN_A_FOLDER, "which packages are hidden in it?"


@pytest.mark.parametrize("path", [path for path in MODULES if path.parent != TRANSITIONS], ids=name)
def test_only_transitions_write_media_and_attempts(path):
    assert not [text for text in texts_of(path) if WRITES_MEDIA_OR_ATTEMPTS.search(text)]


@pytest.mark.parametrize(
    "statement",
    [
        "update media set status = 'COMPLETED'",
        "UPDATE attempts a SET called_back = true",
        "INSERT INTO attempts (id) VALUES (1)",
        "insert  into media (id) VALUES (1)",
        "DELETE FROM media",
        "UPDATE ONLY media SET rank = 1",
    ],
)
def test_rule_about_writing_catches_a_breach(statement):
    assert WRITES_MEDIA_OR_ATTEMPTS.search(statement)


@pytest.mark.parametrize(
    "statement",
    ["SELECT status FROM media", "INSERT INTO media_history (id) VALUES (1)", "SELECT FROM attempts FOR UPDATE OF a"],
)
def test_rule_about_writing_lets_reads_pass(statement):
    assert not WRITES_MEDIA_OR_ATTEMPTS.search(statement)


@pytest.mark.parametrize("path", sorted(TRANSITIONS.glob("*.py")), ids=name)
def test_transition_runs_its_own_statements(path):
    """A statement stands beside the function that runs it: none is imported from another module."""
    imported = [
        alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("app.jobs.transitions")
        for alias in node.names
    ]

    assert not [one for one in imported if one.isupper()]


def contracts():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def rooms():
    """Every package of ours with rooms of its own: its contract says which imports which."""
    return [contract for contract in contracts() if contract["type"] == "layers"]


@pytest.mark.parametrize("contract", rooms(), ids=lambda contract: contract["containers"][0])
def test_import_contract_of_a_room_is_short_and_complete(contract):
    assert contract["exhaustive"]
    assert len(contract["layers"]) <= CONTRACT_LINES


def test_every_crowded_package_has_an_import_contract():
    contracted = {contract["containers"][0] for contract in rooms()}

    for folder in (ROOT / "app").iterdir():
        modules = [path for path in MODULES if folder in path.parents and path.name != "__init__.py"]
        if folder.is_dir() and len(modules) > MODULES_IN_A_FOLDER:
            assert f"app.{folder.name}" in contracted


def test_no_address_of_a_machine_or_a_registry_is_committed():
    for path in [ROOT / "pyproject.toml", *ROOT.glob("docs/**/*.md"), ROOT / "README.md"]:
        assert not re.search(r"pypi\.org/simple|/root/|/home/\w+/", path.read_text()), path
