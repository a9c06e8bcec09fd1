"""Output of operator commands: tables as wide as the terminal, JSON, durations, check results, progress bars."""

import io
import re
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import msgspec
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.style import Style
from rich.table import Table
from rich.text import Text

from app.cli.console import say
from app.jobs.states import MediaStatus

UNLIMITED: Final = 10_000
"""Width of a table in a file or a pipe."""
PROGRESS_BAR_FROM: Final = 20
"""Number of jobs from which on a progress bar is shown."""
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_COLOURS: Final = {
    MediaStatus.COMPLETED: "green",
    MediaStatus.PROCESSING: "cyan",
    MediaStatus.ERROR: "red",
    MediaStatus.CANCELED: "yellow",
}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check."""

    name: str
    ok: bool
    detail: str
    hint: str = ""
    """What to do if it failed."""


def screen_width() -> int:
    """The columns of standard output; unlimited in a file or a pipe."""
    return Console().width if sys.stdout.isatty() else UNLIMITED


def show(part: RenderableType) -> None:
    """Print a table; cells are printed literally, never as markup."""
    written = io.StringIO()
    terminal = sys.stdout.isatty()
    Console(
        file=written, width=screen_width(), force_terminal=terminal, highlight=False, emoji=False, markup=False
    ).print(part)
    say("\n".join(line.rstrip() for line in written.getvalue().splitlines()))


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table without borders; a column whose name begins with > is right-aligned."""
    made = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        made.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="ellipsis")
    return made


def colored(status: str) -> Text:
    """The status of a media item or an attempt, in its colour."""
    return Text(status, Style.parse(_COLOURS.get(MediaStatus(status), "none") if status in _COLOURS else "none"))


def show_json(document: object) -> None:
    """Print a JSON document on one line."""
    say(as_json(document))


def as_json(document: object) -> str:
    """As JSON; times in UTC, durations in seconds."""
    return msgspec.json.encode(_plain(document)).decode()


def show_checks(checks: list[CheckResult]) -> None:
    """Print check results, with hints for those that failed."""
    width = max(len(check.name) for check in checks) + 2
    for check in checks:
        say(f"{'ok' if check.ok else 'FAIL':<6}{check.name:<{width}}{check.detail}")
        if not check.ok and check.hint:
            say(f"{'':<{6 + width}}-> {check.hint}")


def checks_as_json(checks: list[CheckResult]) -> list[dict[str, Any]]:
    """Check results for `--json`."""
    return [{**asdict(check), "hint": "" if check.ok else check.hint} for check in checks]


def parse_duration(text: str) -> timedelta:
    """Parse `90s`, `15m`, `2h` or `1d`.

    Raises:
        ValueError: The text has another form.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write it like 90s, 15m, 2h or 1d")
    return timedelta(seconds=float(match[1]) * UNITS[match[2]])


def short_duration(span: timedelta) -> str:
    """A duration in two or three digits and a unit."""
    seconds = max(span.total_seconds(), 0)
    for unit, length in reversed(UNITS.items()):
        if seconds >= length * (1 if unit == "s" else 2):
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.0f}s"


def timestamp(when: datetime | None) -> str:
    """A time in UTC, to the second; empty for None."""
    return "" if when is None else f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


@contextmanager
def progress(what: str, total: int) -> Generator[Callable[[int], None]]:
    """A progress bar on standard error, if that is a terminal and `total` is large; call it with each step's count."""
    quick = total < PROGRESS_BAR_FROM
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=Console(stderr=True), transient=True, disable=quick or not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in cast("Sequence[Any]", value)]
    if isinstance(value, timedelta):
        return round(value.total_seconds(), 3)
    return value.astimezone(UTC) if isinstance(value, datetime) else value
