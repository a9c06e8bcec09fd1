"""Writes docs/reference and the generated parts of docs/architecture from the code.

Run `uv run python scripts/docs/reference.py`; a test fails when a page is stale.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from app.cli.errors import FAILURE, USAGE
from app.cli.main import app as cli
from app.cli.operator_runtime import INTERRUPTED
from app.core.config import Settings
from app.core.errors import FleekError
from app.core.http_server import problems
from app.core.telemetry.metrics import METRICS
from app.jobs.job_errors import JOB_ERRORS
from app.jobs.metrics.counters import PersistedCounter
from app.jobs.states import TRANSITIONS, AttemptStatus, MediaEvent, MediaStatus, chart
from app.main import create_app
from app.media_generator.errors import ProviderError
from app.tools.families import LEASES_EXPIRED, SWEEP_FOUND
from app.tools.metrics import GAUGES

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from scripts.docs.file_types import file_types_page  # noqa: E402 - this file is run by its path
from scripts.docs.structure import structure_page  # noqa: E402 - this file is run by its path

NOTE = "<!-- Written by scripts/docs/reference.py from the code; manual changes are lost. -->\n\n"


def settings_page() -> str:
    """Every setting with its default and its description."""
    lines = [
        "# Settings",
        "",
        "Read from the environment, then from `.env.local`, then from `.env`. An invalid one is reported at startup.",
        "`fleek doctor` shows the effective values and where each comes from.",
        "",
        "| Setting | Default | Description |",
        "| --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if hasattr(default, "get_secret_value"):
            default = default.get_secret_value()
        shown = "" if default in (None, [], {}) else f"`{default}`"
        lines.append(f"| `{name.upper()}` | {shown} | {(field.description or '').replace(chr(10), ' ')} |")
    return NOTE + "\n".join(lines) + "\n"


def _subclasses(base: type[Any]) -> Iterator[type[Any]]:
    for child in base.__subclasses__():
        yield child
        yield from _subclasses(child)


def errors_page() -> str:
    """Every code that a response or a media item's `error` may carry."""
    answers = {(child.status, child.code, child.title) for child in (FleekError, *_subclasses(FleekError))}
    answers |= {(status, *rest) for status, rest in problems.CODES.items()}
    answers = {entry for entry in answers if entry[1] != "invalid_settings"}
    lines = [
        "# Error codes",
        "",
        "## API responses",
        "",
        "Every 4xx and 5xx is `application/problem+json` (RFC 9457): `type`, `title`, `status`, `detail`, `code`, and",
        "`errors` with one entry (`field`, `message`, `given`, `allowed`) for each wrong field. Act on `code`.",
        "",
        "| Status | Code | Meaning |",
        "| --- | --- | --- |",
        *(f"| {status} | `{code}` | {title} |" for status, code, title in sorted(answers)),
        "",
        "## A media item's `error`",
        "",
        "Why the last attempt failed. `sent` says whether it may have cost money; only `NO` is ever retried by itself,",
        "unless the request said `on_unknown: retry`.",
        "",
        "| Code | Sent | Retried | Meaning |",
        "| --- | --- | --- | --- |",
    ]
    for child in _subclasses(ProviderError):
        if "code" in vars(child):
            again = "yes" if child.retryable else "no"
            lines.append(f"| `{child.code}` | {child.sent} | {again} | {(child.__doc__ or '').splitlines()[0]} |")
    lines += [f"| `{ending.code}` | {ending.sent} | no | {ending.meaning} |" for ending in JOB_ERRORS]
    return NOTE + "\n".join(lines) + "\n"


def endpoints_page() -> str:
    """Every operation of the API."""
    document = create_app().openapi()
    unsaid = {*problems.ANY_REQUEST, *problems.ANY_CHANGE, 408}
    lines = [
        "# Endpoints",
        "",
        "The complete description, with schemas and a form to try each, is at `/docs` of a running API.",
        "",
        "Not repeated in the table: any request may be answered with 400 `ambiguous_header` or 421 `foreign_host`,",
        "one that changes something with 403 `cross_site_request`, and one with a body with 408 `request_timeout`.",
        "",
        "| Operation | What it does | Responses |",
        "| --- | --- | --- |",
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answers = ", ".join(status for status in operation["responses"] if int(status) not in unsaid)
            lines.append(f"| `{method.upper()} {path}` | {operation['summary']} | {answers} |")
    return NOTE + "\n".join(lines) + "\n"


def states_page() -> str:
    """The state chart and what each state means."""
    source = (ROOT / "app" / "jobs" / "states.py").read_text().splitlines()

    def meaning(member: Any) -> str:
        after = source[source.index(f"class {type(member).__name__}(StrEnum):") :]
        line = next(line for line in after if line.strip().startswith(f'{member.name} = "'))
        return line.partition("# ")[2]

    lines = [
        "# States",
        "",
        "Drawn from the table in `app/jobs/states.py`. A status is written only by `app/jobs/transitions`, with one",
        "function per event; each status change is one statement and adds a row to `media_history`.",
        "",
        "```mermaid",
        chart(),
        "```",
        "",
    ]
    for title, members in (("Media", MediaStatus), ("Attempt", AttemptStatus), ("Event", MediaEvent)):
        lines += [f"| {title} | Meaning |", "| --- | --- |"]
        lines += [f"| `{member}` | {meaning(member)} |" for member in members]
        lines.append("")
    finals = ", ".join(f"`{event}`" for event, move in TRANSITIONS.items() if not move.sources)
    lines.append(f"The first event of a media item is {finals}.")
    return NOTE + "\n".join(lines) + "\n"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def metrics_page() -> str:
    """Every metric with its labels."""
    counts = [(*LEASES_EXPIRED, ()), (*SWEEP_FOUND, ("what",)), *((m.name, m.description, m.labels) for m in METRICS)]
    histograms = {metric.name for metric in METRICS if metric.bounds}
    lines = [
        "# Metrics",
        "",
        "`GET /tools/metrics` of any API reports for all processes. How to use them: [operate](../how-to/operate.md).",
        "",
        "| Read from tables | Labels | What it measures |",
        "| --- | --- | --- |",
        *(f"| `{gauge.name}` | {_listed(gauge.labels)} | {gauge.description} |" for gauge in GAUGES),
        "",
        "What processes count is at most five seconds old. A counter's name ends with `_total`; a histogram has",
        "`_bucket`, `_count` and `_sum`.",
        "",
        "| Counted by processes | Kind | Labels | What it measures |",
        "| --- | --- | --- | --- |",
    ]
    for name, says, labels in counts:
        kind = "histogram" if name in histograms else "counter"
        lines.append(f"| `{name}` | {kind} | {_listed(labels)} | {says} |")
    lines += ["", "| `what` of `fleek_sweep_found` | |", "| --- | --- |"]
    source = (ROOT / "app" / "jobs" / "metrics" / "counters.py").read_text().splitlines()
    for counted in PersistedCounter:
        line = next(line for line in source if line.strip().startswith(f'{counted.name} = "'))
        if counted is not PersistedCounter.LEASES_EXPIRED:
            lines.append(f"| `{counted}` | {line.partition('# ')[2]} |")
    return NOTE + "\n".join(lines) + "\n"


def command_line_page() -> str:
    """Every command of `fleek` with its arguments and options."""
    lines = [
        "# The command line",
        "",
        "| Exit status | Meaning |",
        "| --- | --- |",
        "| 0 | success |",
        f"| {FAILURE} | a check failed, a server does not respond, or a job was refused; the output says which |",
        f"| {USAGE} | the command line is invalid; nothing was done |",
        f"| {INTERRUPTED} | Ctrl-C |",
        "",
        "An error is one line on standard error. With `--json`, standard output contains JSON and nothing else:",
        "one document, or one object per line for commands about many jobs (`jobs list`, `jobs retry`,",
        "`jobs cancel`). Output to a file or a pipe has all columns, not shortened.",
        "",
        "`jobs`, `db`, `store`, `serve` and `worker` use the engines of your environment, `.env.local` or `.env`.",
        "While `fleek up` runs in the same folder, they use its engines, unless a real environment variable names an",
        "engine.",
        "",
        "`fleek --install-completion` adds shell completion for commands, options, statuses, models and providers.",
    ]
    for path, command in _commands("fleek", typer.main.get_command(cli)):
        lines += ["", f"## `{path}`", "", (command.help or "").replace("\b", "").strip()]
        rows = [row for parameter in command.params if (row := _parameter_row(parameter))]
        lines += ["", "| Argument or option | Default | Description |", "| --- | --- | --- |", *rows] if rows else []
    return NOTE + "\n".join(lines) + "\n"


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
    for name, child in (below or {}).items():
        yield from _commands(f"{path} {name}", child)


def _parameter_row(parameter: Any) -> str:
    named = parameter.param_type_name == "option"
    name = ", ".join(parameter.opts) if named else parameter.metavar or parameter.name.upper()
    if named and parameter.metavar:
        name += f" {parameter.metavar}"
    default = "" if parameter.default in (None, False) else f"`{parameter.default}`"
    also = f" Also read from `{parameter.envvar}`." if getattr(parameter, "envvar", None) else ""
    return f"| `{name}` | {default} | {parameter.help or ''}{also} |"


PAGES = {
    "docs/reference/settings.md": settings_page,
    "docs/reference/errors.md": errors_page,
    "docs/reference/endpoints.md": endpoints_page,
    "docs/reference/metrics.md": metrics_page,
    "docs/reference/command-line.md": command_line_page,
    "docs/reference/file-types.md": lambda: NOTE + file_types_page(),
    "docs/architecture/3-states.md": states_page,
    "docs/architecture/4-where-things-are.md": structure_page,
}


def main() -> int:
    """Write every page."""
    for path, make in PAGES.items():
        target = ROOT / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(make())
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
