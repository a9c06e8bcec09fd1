"""`fleek doctor`: which settings are in force, and whether all that is needed answers."""

import json
import os
import subprocess
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Final

from app.cli.checks.settings_report import Line, report
from app.cli.console import complain, quoted, say, verdict
from app.cli.environment import for_development, python, python_environment
from app.cli.running_instance import running_addresses
from app.cli.tables import Finding
from app.core.config import Settings
from app.core.errors import SettingsError
from app.core.load_settings import load_settings
from app.core.production_checks import cautions

CHECKS: Final = ("database", "migrations", "broker", "worker", "store", "providers")
START_SECONDS: Final = 60.0
"""When we stop waiting for the examination to begin."""
EXAMINATION_SECONDS: Final = 8.0
"""When we stop waiting for answers after that."""
START_HINT: Final = "Nothing runs here? `fleek up` starts everything."


def run(data: Path, *, as_json: bool) -> int:
    """Print what was found; the exit status: 1 if anything fails."""
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
    findings = _examine()
    healthy = all(finding.ok for finding in findings)
    notes = [*cautions(settings), *_other_under_up(settings)]
    if as_json:
        _show_json(lines, findings, notes, data if running else None)
    else:
        _show(lines, findings, notes, data if running else None)
    return 0 if healthy else 1


def _other_under_up(settings: Settings) -> list[str]:
    """Settings of which `fleek up` has its own default: it is told, because the table cannot know who asks."""
    always = for_development(settings, exposed=True)
    unless = ", unless other machines reach its API"
    return [
        f"{name} is not set: `fleek up` takes {value}{'' if name in always else unless}"
        for name, value in for_development(settings, exposed=False).items()
    ]


def _examine() -> list[Finding]:
    """What another process finds out; it is cut off when it has said all, or when it takes too long."""
    found: dict[str, Finding] = {}
    with (
        tempfile.TemporaryFile("w+") as noise,
        subprocess.Popen(  # noqa: S603 - our own program
            python("app.cli.checks.probe_all"),
            env=os.environ | python_environment(),
            stdout=subprocess.PIPE,
            stderr=noise,
            text=True,
        ) as examiner,
    ):
        alarm = _killed_after(START_SECONDS, examiner)
        while len(found) < len(CHECKS) and (line := examiner.stdout.readline() if examiner.stdout else ""):
            if told := json.loads(line):
                found[told["name"]] = Finding(**told)
            else:
                alarm.cancel()
                alarm = _killed_after(EXAMINATION_SECONDS, examiner)
        late = alarm.finished.is_set()
        alarm.cancel()
        examiner.kill()
        noise.seek(0)
        trouble = f"no answer within {alarm.interval:.0f} seconds" if late else verdict(noise.read())
    return [found.get(name) or Finding(name, ok=False, detail=trouble, hint="") for name in CHECKS]


def _killed_after(seconds: float, process: subprocess.Popen[str]) -> threading.Timer:
    alarm = threading.Timer(seconds, process.kill)
    alarm.start()
    return alarm


def _show(lines: list[Line], findings: list[Finding], notes: list[str], up: Path | None) -> None:
    if up is not None:
        say(f"`fleek up` is running on {quoted(up)}: its addresses are used.")
        say()
    say("Settings")
    names = max(len(line.name) for line in lines)
    values = max(len(_text(line)) for line in lines)
    for line in lines:
        say(f"  {line.name:<{names}}  {_text(line):<{values}}  {line.source}")
    say()
    say("Checks")
    for finding in findings:
        say(f"  {'ok' if finding.ok else 'FAIL':<6}{finding.name:<12}{finding.detail}")
        if not finding.ok and finding.hint:
            say(f"  {'':<18}-> {finding.hint}")
    for note in notes:
        say(f"  note  {note}")
    say()
    failed = sum(not finding.ok for finding in findings)
    say("All is well." if not failed else f"{failed} of {len(findings)} checks failed.")
    if up is None and not any(finding.ok for finding in findings if finding.name != "providers"):
        say(START_HINT)


def _show_json(lines: list[Line], findings: list[Finding], notes: list[str], up: Path | None) -> None:
    document = {
        "ok": all(finding.ok for finding in findings),
        "up": None if up is None else str(up),
        "settings": [asdict(line) for line in lines],
        "checks": [asdict(finding) for finding in findings],
        "notes": notes,
    }
    say(json.dumps(document, indent=2))


def _text(line: Line) -> str:
    if line.value is None:
        return "(not set)"
    if isinstance(line.value, list):
        return ", ".join(map(str, line.value)) or "(none)"
    return str(line.value).lower() if isinstance(line.value, bool) else str(line.value)
