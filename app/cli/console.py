"""What commands print: short lines, flushed at once; a closed terminal or pipe never makes a command fail."""

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
"""Lines that name the error, the most specific first."""


def say(text: str = "") -> None:
    """Print a line for the user."""
    _write(sys.stdout, text)


def complain(text: str) -> None:
    """Print an error or a notice on standard error, as one line."""
    _write(sys.stderr, f"fleek: {text}")


def without_passwords(address: str) -> str:
    """The same address with its passwords and keys replaced by ***."""
    return _PASSWORD_PARAMETER.sub(r"\1=***", _PASSWORD.sub(r"\1:***@", address))


def verdict(output: str) -> str:
    """The line of a program's output that says what went wrong; failing that, its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    candidates = [[line for line in lines if pattern.match(line)] for pattern in _VERDICTS]
    return without_passwords(next(filter(None, candidates), lines or ["it printed nothing"])[-1])


def one_line(error: Exception) -> str:
    """An error in one line; if it carries a log, its first line and the verdict on the log."""
    first, _, log = str(error).partition("\n")
    return f"{first}: {verdict(log)}" if log.strip() else without_passwords(first)


def quoted(path: Path) -> str:
    """A path that can be pasted into a shell."""
    return shlex.quote(str(path))


def _write(stream: TextIO, text: str) -> None:
    try:
        print(text, file=stream, flush=True)
    except OSError:
        # The terminal or the pipe is closed: carry on, and let Python flush into nothing at exit.
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, stream.fileno())
        os.close(devnull)
