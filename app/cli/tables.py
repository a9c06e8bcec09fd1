"""How operators' commands show things: tables as wide as the terminal, JSON for programs, ages in short."""

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
"""Columns of a file or a pipe."""
WORTH_A_BAR: Final = 20
"""Jobs from which on it may take long enough to be looked at."""
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_COLOURS: Final = {
    MediaStatus.COMPLETED: "green",
    MediaStatus.PROCESSING: "cyan",
    MediaStatus.ERROR: "red",
    MediaStatus.CANCELED: "yellow",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one check."""

    name: str
    ok: bool
    detail: str
    hint: str = ""
    """What to do where it is not."""


def screen_width() -> int:
    """The columns of standard output; a file or a pipe has room for everything."""
    return Console().width if sys.stdout.isatty() else UNLIMITED


def show(part: RenderableType) -> None:
    """Print a table; what stands in it is taken as it is, never as markup."""
    written = io.StringIO()
    terminal = sys.stdout.isatty()
    Console(
        file=written, width=screen_width(), force_terminal=terminal, highlight=False, emoji=False, markup=False
    ).print(part)
    say("\n".join(line.rstrip() for line in written.getvalue().splitlines()))


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table without lines; a column whose name begins with > stands to the right."""
    made = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        made.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="ellipsis")
    return made


def coloured(status: str) -> Text:
    """A status of a media or an attempt."""
    return Text(status, Style.parse(_COLOURS.get(MediaStatus(status), "none") if status in _COLOURS else "none"))


def show_json(document: object) -> None:
    """Print one document on one line."""
    say(as_json(document))


def as_json(document: object) -> str:
    """As JSON; times in UTC."""
    return msgspec.json.encode(_plain(document)).decode()


def show_checks(checks: list[Finding]) -> None:
    """Print what came of checks, and what to do about those that failed."""
    width = max(len(check.name) for check in checks) + 2
    for check in checks:
        say(f"{'ok' if check.ok else 'FAIL':<6}{check.name:<{width}}{check.detail}")
        if not check.ok and check.hint:
            say(f"{'':<{6 + width}}-> {check.hint}")


def plain_checks(checks: list[Finding]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [{**asdict(check), "hint": "" if check.ok else check.hint} for check in checks]


def duration(text: str) -> timedelta:
    """Read `90s`, `15m`, `2h` or `1d`.

    Raises:
        ValueError: It is none of these.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is no duration; write it like 90s, 15m, 2h or 1d")
    return timedelta(seconds=float(match[1]) * UNITS[match[2]])


def short(span: timedelta) -> str:
    """A span of time in two or three characters and a unit."""
    seconds = max(span.total_seconds(), 0)
    for unit, length in reversed(UNITS.items()):
        if seconds >= length * (1 if unit == "s" else 2):
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.0f}s"


def moment(when: datetime | None) -> str:
    """A time in UTC, to the second; empty: never."""
    return "" if when is None else f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


@contextmanager
def progress(what: str, total: int) -> Generator[Callable[[int], None]]:
    """A progress bar on standard error, if that is a terminal and there is much to do; called with what was done."""
    quick = total < WORTH_A_BAR
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
