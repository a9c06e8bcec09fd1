"""`fleek doctor`: the effective settings, and whether everything Fleek needs answers."""

import json
import os
import subprocess
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Final

from app.cli.checks.settings_report import SettingLine, report
from app.cli.console import complain, quoted, say, verdict
from app.cli.environment import development_defaults, python, python_environment
from app.cli.running_instance import running_addresses
from app.cli.tables import CheckResult
from app.core.config import Settings
from app.core.errors import SettingsError
from app.core.load_settings import load_settings
from app.core.production_checks import cautions

ENGINES: Final = frozenset({"database", "broker", "store"})
"""Checks of what `fleek up` starts."""
CHECKS: Final = ("database", "migrations", "broker", "worker", "clock", "workers", "store", "providers")
START_SECONDS: Final = 60.0
"""Timeout for the start of the checks."""
PROBE_SECONDS: Final = 8.0
"""Timeout for the checks themselves."""
START_HINT: Final = "To start everything on this machine, run `fleek up`."


def run(data: Path, *, as_json: bool) -> int:
    """Print settings and checks; the exit status: 1 if a check fails."""
    running = running_addresses(data)
    os.environ.update(running)
    try:
        settings = load_settings()
    except SettingsError as error:
        if as_json:
            say(json.dumps({"ok": False, "error": error.detail}))
        else:
            complain(f"invalid setting: {error.detail}")
        return 1
    lines = report(settings, running, quoted(data / "env"))
    results = _probe()
    healthy = all(result.ok for result in results)
    notes = [*cautions(settings), *_defaults_of_fleek_up(settings)]
    if as_json:
        _show_json(lines, results, notes, data if running else None)
    else:
        _show(lines, results, notes, data if running else None)
    return 0 if healthy else 1


def _defaults_of_fleek_up(settings: Settings) -> list[str]:
    """Notes on settings for which `fleek up` has its own defaults, which the table of settings cannot show."""
    always = development_defaults(settings, exposed=True)
    unless = ", unless other machines can reach the API"
    return [
        f"{name} is not set: `fleek up` uses {value}{'' if name in always else unless}"
        for name, value in development_defaults(settings, exposed=False).items()
    ]


def _probe() -> list[CheckResult]:
    """Run the checks in a process of their own; it is killed once all results are in, or at a timeout."""
    found: dict[str, CheckResult] = {}
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(  # noqa: S603 - our own program
            python("app.cli.checks.probe_all"),
            env=os.environ | python_environment(),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as prober,
    ):
        timer = _killed_after(START_SECONDS, prober)
        while len(found) < len(CHECKS) and (line := prober.stdout.readline() if prober.stdout else ""):
            if result := json.loads(line):
                found[result["name"]] = CheckResult(**result)
            else:
                timer.cancel()
                timer = _killed_after(PROBE_SECONDS, prober)
        timed_out = timer.finished.is_set()
        timer.cancel()
        prober.kill()
        errors.seek(0)
        reason = f"no answer within {timer.interval:.0f} seconds" if timed_out else verdict(errors.read())
    return [found.get(name) or CheckResult(name, ok=False, detail=reason, hint="") for name in CHECKS]


def _killed_after(seconds: float, process: subprocess.Popen[str]) -> threading.Timer:
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    return timer


def _show(lines: list[SettingLine], results: list[CheckResult], notes: list[str], up: Path | None) -> None:
    if up is not None:
        say(f"`fleek up` is running in {quoted(up)}: its addresses are used.")
        say()
    say("Settings")
    names = max(len(line.name) for line in lines)
    values = max(len(_text(line)) for line in lines)
    for line in lines:
        say(f"  {line.name:<{names}}  {_text(line):<{values}}  {line.source}")
    say()
    say("Checks")
    for result in results:
        say(f"  {'ok' if result.ok else 'FAIL':<6}{result.name:<12}{result.detail}")
        if not result.ok and result.hint:
            say(f"  {'':<18}-> {result.hint}")
    for note in notes:
        say(f"  note  {note}")
    say()
    failed = sum(not result.ok for result in results)
    say("All checks passed." if not failed else f"{failed} of {len(results)} checks failed.")
    if up is None and not any(result.ok for result in results if result.name in ENGINES):
        say(START_HINT)


def _show_json(lines: list[SettingLine], results: list[CheckResult], notes: list[str], up: Path | None) -> None:
    document = {
        "ok": all(result.ok for result in results),
        "running_instance": None if up is None else str(up),
        "settings": [asdict(line) for line in lines],
        "checks": [asdict(result) for result in results],
        "notes": notes,
    }
    say(json.dumps(document, indent=2))


def _text(line: SettingLine) -> str:
    if line.value is None:
        return "(not set)"
    if isinstance(line.value, list):
        return ", ".join(map(str, line.value)) or "(none)"
    return str(line.value).lower() if isinstance(line.value, bool) else str(line.value)
