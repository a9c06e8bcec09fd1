"""The generated part of docs/architecture/4-where-things-are.md: every module, and the import picture."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture" / "4-where-things-are.md"
MARKER = "<!-- Everything below is written by scripts/docs/reference.py from pyproject.toml and the modules. -->"
PURPOSE = {
    "": "composition: processes put together from the packages below",
    "auth": "whose media it is",
    "cli": "the command line",
    "core": "what every package may use",
    "embedded": "real engines from Python wheels",
    "idempotency": "idempotency keys",
    "jobs": "the durable engine: makes a media item happen, and survives",
    "logs": "what was logged about a job",
    "media": "what clients ask for and see",
    "media_generator": "the provider side",
    "provenance": "what a file says about its origin: marks written, read and taken out",
    "storage": "objects in the bucket, signed URLs",
    "tasks": "Celery, and nothing else knows it",
    "tools": "status, readiness and metrics",
    "uploads": "input files",
    "webhooks": "outgoing events",
}
"""What each package of `app` is for."""


def modules() -> Iterator[Path]:
    """Every module of the product with something in it, below `app`."""
    for path in sorted((ROOT / "app").rglob("*.py")):
        if not {"tests", "template"} & set(path.parts) and path.read_text().strip():
            yield path


def structure_page() -> str:
    """The page: its hand-written part, then what the code says."""
    written = PAGE.read_text().partition(MARKER)[0].rstrip()
    return f"{written}\n\n{MARKER}\n\n{_imports()}\n\n{_tables()}\n"


def _imports() -> str:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    parts = ["## Imports", "", "A module imports from the lines below its own, never from those above or beside it:"]
    for contract in contracts:
        if contract["type"] == "layers":
            parts += ["", f"**{contract['name']}**", "", "```", *contract["layers"], "```"]
    others = [contract["name"] for contract in contracts if contract["type"] != "layers"]
    return "\n".join([*parts, "", "Also checked:", "", *(f"- {name}" for name in others)])


def _tables() -> str:
    folders = dict[Path, list[Path]]()
    for path in modules():
        folders.setdefault(path.parent, []).append(path)
    parts = ["## Every module"]
    for folder, paths in sorted(folders.items()):
        inside = folder.relative_to(ROOT / "app")
        package = inside.parts[0] if inside.parts else ""
        heading = f"### `{folder.relative_to(ROOT)}`"
        if len(inside.parts) <= 1:
            heading += f": {PURPOSE[package]}"
        parts += ["", heading, "", "| Module | What lives there |", "| --- | --- |"]
        parts += [f"| `{path.relative_to(ROOT)}` | {first_sentence(path)} |" for path in paths]
    return "\n".join(parts)


def first_sentence(path: Path) -> str:
    """Of the module's docstring, on one line, without its full stop."""
    text = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0]
    sentence = re.split(r"\.(?:\s|$)", " ".join(text.split()), maxsplit=1)[0]
    return sentence.rstrip(".:").replace("|", "\\|")
