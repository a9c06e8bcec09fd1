"""Faults put back into the running product, to see that a campaign catches them: one that cannot would prove nothing.

`python -m tests.crash --mutation NAME` runs a campaign in which every process of the fleet has the fault;
`python -m tests.crash.mutations` runs one for each and fails if one is not caught.
"""

# ruff: noqa: T201 - what it found is what it prints

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Final

from app.core.database.migrations import ROOT


@dataclass(frozen=True)
class Mutation:
    """One fault."""

    what: str
    put_back: Callable[[], None]
    """In the process that is to have it."""
    troubles: Sequence[str]
    """Those that bring it to light, beside the everyday ones."""
    caught_as: frozenset[str]
    """Kinds of violations, one of which must be found."""


def _patch(place: str, wrap: Callable[[Any], Any]) -> None:
    """Replace `module:owner.function` by what `wrap` makes of it."""
    owner, _, name = place.rpartition(".") if ":" in place and "." in place.partition(":")[2] else place.rpartition(":")
    found = resolve_name(owner)
    setattr(found, name, wrap(getattr(found, name)))


def media_time() -> None:
    """An attempt is said to have begun when its media was asked for."""

    def intend(real: Any) -> Any:
        @wraps(real)
        async def wrapped(self: Any, job: Any, *more: Any) -> Any:
            return replace(await real(self, job, *more), created_at=job.created_at)

        return wrapped

    _patch("app.jobs.execution.submission:Submitter._intend", intend)


def busy_means_not_sent() -> None:
    """503 and 529 are refusals that cost nothing."""
    kit = resolve_name("app.media_generator.adapter_kit.http")
    busy = resolve_name("app.media_generator.errors").BusyError

    def from_answer(real: Any) -> Any:
        @wraps(real)
        def wrapped(provider: str, status: int, headers: Any, message: str, **options: Any) -> Any:
            if status in {503, 529}:
                return busy(f"{provider} answered {status}", retry_after=kit.retry_after(headers))
            return real(provider, status, headers, message, **options)

        return wrapped

    for place in (
        "app.media_generator.adapter_kit.http",
        "app.media_generator.replicate_media_generator.api",
        "app.media_generator.fal_media_generator.errors",
    ):
        _patch(f"{place}:from_answer", from_answer)


MUTATIONS: Final[dict[str, Mutation]] = {
    "media_time": Mutation(
        "a look-up begins at the time of the media (point 1)",
        media_time,
        ("long_wait", "not_accepted_drop"),
        frozenset({"bought twice", "booked as not sent"}),
    ),
    "503_not_sent": Mutation(
        "503 counts as not sent (point 4)",
        busy_means_not_sent,
        ("accept_then_503",),
        frozenset({"bought twice", "booked as not sent"}),
    ),
}


def main() -> int:
    """Run a campaign for each; 0: all are caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.mutations", description=__doc__)
    parser.add_argument("names", nargs="*", default=list(MUTATIONS), help="mutations; none: all of them")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    missed = [name for name in given.names if not _is_caught(name, given)]
    print("all are caught" if not missed else f"not caught: {', '.join(missed)}")
    return 1 if missed else 0


def _is_caught(name: str, given: argparse.Namespace) -> bool:
    mutation = MUTATIONS[name]
    with tempfile.TemporaryDirectory(prefix="fleek-mutation-") as folder:
        report = Path(folder, "report.json")
        options = [f"--{option}={getattr(given, option)}" for option in ("jobs", "kills", "seed")]
        only = [f"--only={trouble}" for trouble in mutation.troubles]
        command = [sys.executable, "-m", "tests.crash", f"--mutation={name}", f"--report={report}", *options, *only]
        ended = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        if not report.exists():
            print(ended.stdout, ended.stderr, sep="\n")
            return False
        counts = {kind: times for kind, times in json.loads(report.read_text())["counts"].items() if times}
    caught = bool(mutation.caught_as & {*counts})
    print(f"{name}: {'caught' if caught else 'NOT caught'} ({mutation.what}): {counts}", flush=True)
    return caught


if __name__ == "__main__":
    sys.exit(main())
