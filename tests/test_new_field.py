"""The recipe of CONTRIBUTING for a new field of a media item, executed on a copy of the code."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap

from tests.support import ROOT, environment_of

STEP = re.compile(r"at the end of `(\w+)` in\s+`([\w/.]+)`[^`]*?```python\n(.*?)```", re.DOTALL)
MOST_FILES = 4

PROGRAM = """
import asyncio
import httpx2
from app.main import app

class Silent:
    def ring(self, queue):
        pass

async def main():
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as api:
            sent = await api.post("/media/generate", json={"prompt": "x", "title": "A lighthouse"})
            media = (await api.get(f"/media/{sent.json()['id']}")).json()
            page = (await api.get("/media")).json()
            bare = await api.post("/media/generate", json={"prompt": "x"})
            long = await api.post("/media/generate", json={"prompt": "x", "title": "x" * 201})
            document = (await api.get("/openapi.json")).json()["components"]["schemas"]
    assert (sent.status_code, sent.json()["title"]) == (202, "A lighthouse"), sent.text
    assert media["title"] == page["items"][0]["title"] == "A lighthouse"
    assert bare.json()["title"] is None
    assert long.json()["errors"][0]["field"] == "title"
    assert all("title" in document[name]["properties"] for name in ("MediaIn", "MediaOut"))

asyncio.run(main())
"""


def insert(path, class_name, lines):
    """Put lines at the end of a class."""
    source = path.read_text()
    (found,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == class_name)
    kept = source.splitlines(keepends=True)
    kept.insert(found.end_lineno, textwrap.indent(lines, "    "))
    path.write_text("".join(kept))


def test_new_field_of_a_media_needs_three_files_and_a_migration(tmp_path, settings):
    for part in ("app", "alembic", "fleek"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    for file in ("alembic.ini", "pyproject.toml"):
        shutil.copy(ROOT / file, tmp_path)
    recipe = (ROOT / "CONTRIBUTING.md").read_text().partition("## A new field of a media item")[2]
    steps = STEP.findall(recipe)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), **environment_of(settings)}

    def run(*command):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    for class_name, path, lines in steps:
        insert(tmp_path / path, class_name, textwrap.dedent(lines))
    commands = re.findall(r"^ *uv run --env-file .fleek/env (alembic .*)$", recipe, re.MULTILINE)
    for command in commands:
        run("-m", *shlex.split(command))
    run("-m", "ruff", "check", "alembic")
    run("-m", "ruff", "format", "--check", "alembic")
    run("-c", PROGRAM)
    (discard,) = re.findall(r"`uv run --env-file .fleek/env (alembic downgrade .*)`", recipe)
    run("-m", *discard.split())

    assert len(commands) == 2
    assert len(steps) == MOST_FILES
    assert len({path for _, path, _ in steps}) < MOST_FILES
