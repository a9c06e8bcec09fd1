"""What the commands print: short lines, at once, and never the reason to fail."""

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Final, TextIO

_PASSWORD: Final = re.compile(r"(://[^:/@]*):.*@", re.DOTALL)
_PASSWORD_PARAMETER: Final = re.compile(r"([?&][^=&]*(?:password|secret|token|key)[^=&]*)=[^&]*", re.IGNORECASE)
_VERDICTS: Final = (
    re.compile(r"^[\w.]+(?:Error|Exception): "),
    re.compile(r"^.*\b(?:FAILED|FATAL|PANIC|CRITICAL|ERROR)\b.*: "),
)
"""What a telling line looks like, the most telling first."""


def say(text: str = "") -> None:
    """Print a line for the user."""
    _write(sys.stdout, text)


def complain(text: str) -> None:
    """Print what is wrong, as one line."""
    _write(sys.stderr, f"fleek: {text}")


def without_passwords(address: str) -> str:
    """The same address, fit to be shown."""
    return _PASSWORD_PARAMETER.sub(r"\1=***", _PASSWORD.sub(r"\1:***@", address))


def verdict(output: str) -> str:
    """The line of a program's output that says what went wrong; at worst its last one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [[line for line in lines if pattern.match(line)] for pattern in _VERDICTS]
    return without_passwords(next(filter(None, telling), lines or ["it wrote nothing"])[-1])


def one_line(error: Exception) -> str:
    """What an error says; of one that carries a log, its first line and the log's verdict."""
    first, _, log = str(error).partition("\n")
    return f"{first}: {verdict(log)}" if log.strip() else without_passwords(first)


def quoted(path: Path) -> str:
    """A path as it can be pasted into a shell."""
    return shlex.quote(str(path))


def _write(stream: TextIO, text: str) -> None:
    try:
        print(text, file=stream, flush=True)
    except OSError:
        # The terminal or the pipe is gone; what runs goes on, and Python does not stumble at its end.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
