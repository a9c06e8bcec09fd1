"""Refreshes the exact versions in pyproject.toml: resolves them again, then writes them down. Needs uv."""

import re
import subprocess
import sys
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
BLOCK = re.compile(r"constraint-dependencies = \[\n(?:.*\n)*?\]\n")


def resolve() -> list[str]:
    """The newest versions that fit together, `name==version` each, with its marker and without any address."""
    text = PYPROJECT.read_text()
    PYPROJECT.write_text(BLOCK.sub("constraint-dependencies = [\n]\n", text))
    try:
        subprocess.run(["uv", "lock", "--upgrade", "--quiet"], cwd=PYPROJECT.parent, check=True)  # noqa: S607
        exported = subprocess.run(  # noqa: S603 - fixed words
            [
                *("uv", "export", "--quiet", "--all-groups", "--all-extras"),
                *("--no-hashes", "--no-emit-project", "--no-header", "--no-annotate"),
            ],
            cwd=PYPROJECT.parent,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    finally:
        PYPROJECT.write_text(text)
    return sorted({line.strip() for line in exported.splitlines() if "==" in line})


def main() -> int:
    """Resolve and write."""
    versions = resolve()
    block = "constraint-dependencies = [\n" + "".join(f'    "{version}",\n' for version in versions) + "]\n"
    PYPROJECT.write_text(BLOCK.sub(lambda _: block, PYPROJECT.read_text()))
    print(f"{len(versions)} versions written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
