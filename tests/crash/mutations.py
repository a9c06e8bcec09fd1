"""Faults put back into the running product, to see that a campaign catches them: one that cannot would prove nothing.

`python -m tests.crash --mutation NAME` runs a campaign in which every process of the fleet has the fault;
`python -m tests.crash.mutations` runs one for each and fails if one is not caught.
"""

# ruff: noqa: T201 - what it found is what it prints

import argparse
import json
import re
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
    often: Sequence[str] = ()
    """How submissions are treated most of the time."""
    sql: Sequence[str] = ()
    """What is taken out of the migrated database first."""


def _patch(place: str, wrap: Callable[[Any], Any]) -> None:
    """Replace `module:owner.function` by what `wrap` makes of it."""
    owner, _, name = place.rpartition(".") if ":" in place and "." in place.partition(":")[2] else place.rpartition(":")
    found = resolve_name(owner)
    setattr(found, name, wrap(getattr(found, name)))


def _patch_everywhere(place: str, wrap: Callable[[Any], Any]) -> None:
    """The same for a function of the adapter kit, which adapters import by its name."""
    real = resolve_name(place)
    for adapter in ("replicate_media_generator", "fal_media_generator"):
        resolve_name(f"app.media_generator.{adapter}.provider")
    fault, name = wrap(real), place.partition(":")[2]
    for module in list(sys.modules.values()):
        if getattr(module, name, None) is real:
            setattr(module, name, fault)


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

    _patch_everywhere("app.media_generator.adapter_kit.http:from_answer", from_answer)


def answers_mixed() -> None:
    """Kept connections are reused whatever has arrived on them, and an answer may be about anything."""
    client = resolve_name("app.core.http_client.client")
    client.KeptConnector = resolve_name("aiohttp").TCPConnector

    def ask_about(_real: Any) -> Any:
        ask = resolve_name("app.media_generator.adapter_kit.http").ask

        async def asked(_external_id: str, http: Any, request: Any, *, provider: str, subject: Any = None) -> Any:
            return await ask(http, replace(request, keep_alive=True), provider=provider)

        return asked

    _patch_everywhere("app.media_generator.adapter_kit.purchase_calls:ask_about", ask_about)


def shared_purchases() -> None:
    """Any number of attempts may adopt the same purchase, also a failed one, and callbacks bind wherever they come."""

    async def none_are_taken(*_args: Any) -> set[str]:
        return set()

    attempt = resolve_name("app.jobs.transitions.attempt")
    attempt._PURCHASE = re.sub(r" AND NOT EXISTS .*?\n(?=RETURNING)", "\n", attempt._PURCHASE, flags=re.DOTALL)
    _patch("app.jobs.queries:taken_purchases", lambda _: none_are_taken)


def truncated_is_final() -> None:
    """What arrives damaged once is not fetched again."""

    def may_copy_again(real: Any) -> Any:
        @wraps(real)
        async def wrapped(self: Any, job: Any, attempt: Any, delayed: Any) -> bool:
            return delayed.suspect is None and await real(self, job, attempt, delayed)

        return wrapped

    _patch("app.jobs.execution.executor:JobExecutor._may_copy_again", may_copy_again)


BOUGHT_AGAIN: Final = frozenset({"bought twice", "booked as not sent"})
MUTATIONS: Final[dict[str, Mutation]] = {
    "media_time": Mutation(
        "a look-up begins at the time of the media (point 1)",
        media_time,
        ("long_wait", "webhook_untold", "callback_lost"),
        BOUGHT_AGAIN,
        often=("long_wait", "accept_then_drop"),
    ),
    "answers_mixed": Mutation(
        "a second answer on a kept connection becomes the next one's (point 2)",
        answers_mixed,
        ("answers_twice",),
        frozenset({"wrong file", "thrown away", "wrong end"}),
    ),
    "shared_purchases": Mutation(
        "a purchase may have several owners (point 3)",
        shared_purchases,
        ("equal_inputs", "webhook_untold", "callback_lost", "not_accepted_drop"),
        frozenset({"wrong purchase", "wrong file"}),
        often=("accept_then_drop", "not_accepted_drop"),
        sql=("DROP INDEX IF EXISTS uq_attempts_purchase",),
    ),
    "503_not_sent": Mutation(
        "503 counts as not sent (point 4)",
        busy_means_not_sent,
        ("accept_then_503", "callback_lost"),
        BOUGHT_AGAIN,
        often=("accept_then_503",),
    ),
    "truncated_is_final": Mutation(
        "a truncated download is final (point 5)",
        truncated_is_final,
        ("output_cut", "output_html"),
        frozenset({"thrown away"}),
    ),
}


def main() -> int:
    """Run a campaign for each; 0: all are caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.mutations", description=__doc__)
    parser.add_argument("names", nargs="*", default=list(MUTATIONS), help="mutations; none: all of them")
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-control", action="store_true", help="do not run the same campaigns without the fault")
    given = parser.parse_args()
    missed = [name for name in given.names if not _is_caught(name, given)]
    print("all are caught" if not missed else f"not caught: {', '.join(missed)}")
    return 1 if missed else 0


def _is_caught(name: str, given: argparse.Namespace) -> bool:
    """Whether the violations of a fault are found with it, and not without it."""
    mutation = MUTATIONS[name]
    found = {True: _violations(name, given, is_there=True)}
    if not given.no_control:
        found[False] = _violations(name, given, is_there=False)
    caught = all(bool(mutation.caught_as & {*counts}) == is_there for is_there, counts in found.items())
    control = f", without it {found[False]}" if False in found else ""
    print(f"{name}: {'caught' if caught else 'NOT caught'} ({mutation.what}): {found[True]}{control}", flush=True)
    return caught


def _violations(name: str, given: argparse.Namespace, *, is_there: bool) -> dict[str, int]:
    """How many a campaign finds, by kind, without those of which there are none."""
    mutation = MUTATIONS[name]
    with tempfile.TemporaryDirectory(prefix="fleek-mutation-") as folder:
        report = Path(folder, "report.json")
        options = [f"--{option}={getattr(given, option)}" for option in ("jobs", "kills", "seed")]
        options += [f"--only={one}" for one in mutation.troubles] + [f"--often={one}" for one in mutation.often]
        options += [f"--mutation={name}"] if is_there else []
        command = [sys.executable, "-m", "tests.crash", f"--report={report}", *options]
        ended = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        if not report.exists():
            raise RuntimeError(f"the campaign made no report: {ended.stdout}{ended.stderr}")
        return {kind: times for kind, times in json.loads(report.read_text())["counts"].items() if times}


if __name__ == "__main__":
    sys.exit(main())
