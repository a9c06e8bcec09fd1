"""Learning that the process is told to stop, while requests that wait can still be answered.

The server waits for open requests before it ends the application, so a request that waits for something must hear
of it earlier, from the signal itself.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType


def on_stop_signal(tell: Callable[[], None]) -> None:
    """Call `tell` at SIGTERM and SIGINT, before the handler that is there already; outside the main thread never."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)
        if not callable(before):
            continue

        def handle(number: int, frame: FrameType | None, before: Callable[..., object] = before) -> None:
            tell()
            before(number, frame)

        signal.signal(number, handle)
