"""What keeps a command from doing its work, and the exit statuses that tell a script."""

from typing import Final

FAULT: Final = 1
"""Something was found wrong, does not answer, or was refused."""
USAGE: Final = 2
"""The command was called in a way that makes no sense; nothing was done."""


class CommandError(Exception):
    """Its text is the one line that the user reads."""

    status = FAULT


class WrongUsageError(CommandError):
    """The command line says what cannot be done; nothing was done."""

    status = USAGE


class StopRequest(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP; raised wherever the main thread is at that moment."""
