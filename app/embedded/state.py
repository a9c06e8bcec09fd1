"""The state of an engine that is kept between starts: ports and secrets."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self


@dataclass
class EngineState:
    """Stored in one file beside the engine's data, readable by its owner only."""

    ports: dict[str, int] = field(default_factory=dict[str, int])
    secrets: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file; empty on the first start.

        Raises:
            ValueError: The file is damaged.
        """
        try:
            return cls(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return cls()
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error

    def write(self, path: Path) -> None:
        """Replace the file atomically: a crash leaves the old one or the new one."""
        draft = path.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file, indent=1)
            file.flush()
            os.fsync(descriptor)
        draft.replace(path)
