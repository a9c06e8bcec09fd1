"""Notifies of a stop signal while waiting requests can still be answered.

The server waits for open requests before it shuts the application down, so long-polling requests must be ended by
the signal itself.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType


def on_stop_signal(callback: Callable[[], None]) -> None:
    """Call `callback` at SIGTERM and SIGINT, before the existing handler; never outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        existing = signal.getsignal(number)
        if not callable(existing):
            continue

        def handle(number: int, frame: FrameType | None, existing: Callable[..., object] = existing) -> None:
            callback()
            existing(number, frame)

        signal.signal(number, handle)
