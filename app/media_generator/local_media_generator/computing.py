"""The main loop of a compute process: orders come in, files go out. Modules with a model end in `serve(Model)`.

The process starts nothing that outlives it, and ends when its input is closed, so also when the worker is killed.
"""

import os
import sys
import traceback
from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, Thread
from typing import BinaryIO, Protocol

from app.media_generator.local_media_generator.messages import (
    LENGTH_BYTES,
    READ_TO,
    Aborted,
    Completed,
    FromProcess,
    Order,
    OrderFailed,
    Progress,
    frame,
)


class Model(Protocol):
    """Generates files."""

    def make(self, order: Order, report: Callable[[float], None]) -> bytes:
        """The file of an order.

        Args:
            order: The order.
            report: To be called between steps with the progress, 0 to 1; an exception from it ends the order.

        Raises:
            UnsafeContentError: The result must not be shown.
        """
        ...


class UnsafeContentError(Exception):
    """The model's safety checker rejected its result; the message is for the media's owner."""


class _CanceledError(Exception):
    """The order was canceled."""


class _ModelLoadError(Exception):
    """The model cannot be loaded."""


def serve(load: Callable[[], Model]) -> None:
    """Process orders until the input is closed.

    Args:
        load: Creates the model, when it is first needed.
    """
    # Libraries print to stdout; their output must not get between the frames.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    stop = Event()
    orders: SimpleQueue[Order] = SimpleQueue()
    Thread(target=_read_orders, args=(orders, stop), daemon=True).start()
    model: Model | None = None

    def report(share: float) -> None:
        if stop.is_set():
            raise _CanceledError
        _send(answers, Progress(share))

    while True:
        order = orders.get()
        try:
            model = model or _load_model(load)
            report(0.05)
            answer: FromProcess = Completed(model.make(order, report))
        except _CanceledError:
            answer = Aborted()
        except _ModelLoadError as error:
            answer = OrderFailed(str(error))
        except UnsafeContentError as error:
            answer = OrderFailed(str(error), content=True)
        except Exception as error:  # noqa: BLE001 - libraries may raise anything, and the next order may succeed
            answer = OrderFailed(f"{type(error).__name__}: {error}")
        _send(answers, answer)


def _load_model(load: Callable[[], Model]) -> Model:
    """The model; why it cannot be loaded goes to the operator's log only, because it names folders."""
    try:
        return load()
    except Exception as error:
        traceback.print_exc()
        raise _ModelLoadError(f"the model cannot be loaded ({type(error).__name__}): see the worker's log") from error


def _read_orders(orders: "SimpleQueue[Order]", stop: Event) -> None:
    source = sys.stdin.buffer
    while head := source.read(LENGTH_BYTES):
        message = READ_TO.decode(source.read(int.from_bytes(head, "big")))
        if isinstance(message, Order):
            stop.clear()
            orders.put(message)
        else:
            stop.set()
    # The worker is gone; the main thread may be in the middle of a computation.
    os._exit(0)


def _send(answers: BinaryIO, message: FromProcess) -> None:
    answers.write(frame(message))
    answers.flush()
