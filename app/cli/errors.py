"""Errors that end a command, and its exit statuses."""

from typing import Final

FAILURE: Final = 1
"""A check failed, something does not answer, or a request was refused."""
USAGE: Final = 2
"""The command line is invalid; nothing was done."""


class CommandError(Exception):
    """Its text is the one line that the user sees."""

    status = FAILURE


class WrongUsageError(CommandError):
    """The command line asks for something impossible; nothing was done."""

    status = USAGE


class StopRequest(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP; raised wherever the main thread is at that moment."""
