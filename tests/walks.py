"""The walk of a request, or of a job, through our code: every function that runs on the way, in order.

A hop is a function, counted once. Not counted: `app/core` (what any program has: HTTP server, pool, telemetry, ids),
the wiring (`main.py`, `runtime.py`, `dependencies.py`), counters of metrics, what a provider's adapter does, and
constructors and properties.
"""

import sys
from inspect import getattr_static
from pathlib import PurePath
from types import CodeType, FrameType
from typing import Any, NamedTuple, Self

LEFT_OUT = ("core/", "jobs/metrics/", "logs/", "main.py", "runtime.py", "media/api/dependencies.py")
ADAPTERS = ("media_generator/media_generator_model.py", "_media_generator/")


class Hop(NamedTuple):
    """A function on the way."""

    file: str
    """Below `app`."""
    function: str
    """Its qualified name."""


class Walk:
    """Notes the hops below certain functions while it is entered."""

    def __init__(self, *roots: str) -> None:
        """Prepare.

        Args:
            roots: Qualified names of functions, such as `Runner._run`: only they and what they call are noted.
        """
        self._roots = roots
        self.hops: list[Hop] = []

    def __enter__(self) -> Self:
        sys.setprofile(self._on_event)
        return self

    def __exit__(self, *_error: object) -> None:
        sys.setprofile(None)

    def _on_event(self, frame: FrameType, event: str, _argument: Any) -> None:
        hop = _hop(frame.f_code)
        if event != "call" or hop is None or hop in self.hops or hop.file.startswith(LEFT_OUT):
            return
        callers = self._callers(frame)
        below_root = any(caller.function in self._roots for caller in callers)
        below_adapter = any(part in caller.file for caller in callers for part in ADAPTERS)
        if below_root and not below_adapter and not _is_attribute(hop):
            self.hops.append(hop)

    @staticmethod
    def _callers(frame: FrameType | None) -> list[Hop]:
        """The function itself, then who called it, and so on."""
        found: list[Hop] = []
        while frame is not None:
            if (hop := _hop(frame.f_code)) is not None:
                found.append(hop)
            frame = frame.f_back
        return found


def table(hops: list[Hop]) -> str:
    """A walk as Markdown."""
    lines = ["| Hop | File | Function |", "| --- | --- | --- |"]
    previous = ""
    for number, hop in enumerate(hops, 1):
        lines.append(f"| {number} | {'' if hop.file == previous else f'`app/{hop.file}`'} | `{hop.function}` |")
        previous = hop.file
    return "\n".join(lines)


def _hop(code: CodeType) -> Hop | None:
    parts = PurePath(code.co_filename).parts
    # Comprehensions and lambdas belong to the function around them.
    if "app" not in parts or "site-packages" in parts or "tests" in parts or code.co_name.startswith("<"):
        return None
    return Hop("/".join(parts[parts.index("app") + 1 :]), code.co_qualname.replace(".<locals>", ""))


def _is_attribute(hop: Hop) -> bool:
    """Whether it is a constructor or a property."""
    *above, name = hop.function.split(".")
    found: Any = sys.modules["app." + hop.file.removesuffix(".py").replace("/", ".")]
    for part in above:
        found = getattr(found, part, None)
    return name == "__init__" or isinstance(getattr_static(found, name, None), property)
