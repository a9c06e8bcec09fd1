"""The way of a request, or of a job, through our files: which functions are called from one file into another.

A hop is such a call, counted once for each function. Not counted: what every request passes on its way in and out
(`core/http_server`), logs, traces and metrics, and the provider's own adapter.
"""

import sys
from pathlib import PurePath
from types import CodeType, FrameType
from typing import Any, Final, Self

LEFT_OUT: Final = ("core/http_server/", "core/telemetry/", "jobs/metrics/recording.py", "logs/")


class Walk:
    """Notes the hops below certain functions while it is entered."""

    def __init__(self, *roots: str) -> None:
        """Prepare.

        Args:
            roots: Qualified names of functions, such as `Runner._run`: what is called by nobody below them is ignored.
        """
        self._roots = roots
        self.hops: list[tuple[str, str]] = []
        """File below `app`, and qualified name, in the order of the first calls."""

    def __enter__(self) -> Self:
        sys.setprofile(self._on_event)
        return self

    def __exit__(self, *_error: object) -> None:
        sys.setprofile(None)

    @property
    def files(self) -> list[str]:
        """The files that the walk enters, in order."""
        return list(dict.fromkeys(file for file, _ in self.hops))

    @property
    def table(self) -> str:
        """The walk as Markdown."""
        rows = [f"| {number} | `app/{file}` | `{name}` |" for number, (file, name) in enumerate(self.hops, 1)]
        return "\n".join(["| Hop | File | Function |", "| --- | --- | --- |", *rows])

    def _on_event(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event != "call" or (to := _ours(frame.f_code)) is None:
            return
        above = frame.f_back
        while above is not None and _ours(above.f_code) is None:
            above = above.f_back
        came_from = None if above is None else _ours(above.f_code)
        if to[1] not in self._roots and (came_from is None or came_from[0] == to[0] or not self._below_root(frame)):
            return
        if to not in self.hops and not to[0].startswith(LEFT_OUT) and "_media_generator/" not in to[0]:
            self.hops.append(to)

    def _below_root(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if (found := _ours(frame.f_code)) is not None and found[1] in self._roots:
                return True
            frame = frame.f_back
        return False


def _ours(code: CodeType) -> tuple[str, str] | None:
    parts = PurePath(code.co_filename).parts
    if "app" not in parts or "site-packages" in parts or "tests" in parts or "<" in code.co_qualname.rpartition(".")[2]:
        return None
    return "/".join(parts[parts.index("app") + 1 :]), code.co_qualname
