"""What keeps a command from doing its work."""


class CommandError(Exception):
    """Its text is the one line that the user reads."""


class StopRequest(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP; raised wherever the main thread is at that moment."""
