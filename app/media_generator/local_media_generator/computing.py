"""The process that computes: orders come in, files go out. Modules with a model end in `serve(Model)`.

It begins nothing that outlives it, and ends with its input, so also when the worker is killed.
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
    """What makes files."""

    def make(self, order: Order, tell: Callable[[float], None]) -> bytes:
        """The file of an order.

        Args:
            order: What is wanted.
            tell: To be called between steps with the share that is done; what it raises ends the order.

        Raises:
            UnsafeContentError: It must not be seen.
        """
        ...


class UnsafeContentError(Exception):
    """The model's checker says that its result must not be seen; the message is for the media's owner."""


class _CanceledError(Exception):
    """Nobody wants the file any more."""


class _ModelLoadError(Exception):
    """There is no model."""


def serve(load: Callable[[], Model]) -> None:
    """Work on orders until there can be none any more.

    Args:
        load: Makes the model, when it is first needed.
    """
    # Libraries print; what they print must not get between the frames.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    stop = Event()
    orders: SimpleQueue[Order] = SimpleQueue()
    Thread(target=_read_orders, args=(orders, stop), daemon=True).start()
    model: Model | None = None

    def tell(share: float) -> None:
        if stop.is_set():
            raise _CanceledError
        _send(answers, Progress(share))

    while True:
        order = orders.get()
        try:
            model = model or _load_model(load)
            tell(0.05)
            answer: FromProcess = Completed(model.make(order, tell))
        except _CanceledError:
            answer = Aborted()
        except _ModelLoadError as error:
            answer = OrderFailed(str(error))
        except UnsafeContentError as error:
            answer = OrderFailed(str(error), content=True)
        except Exception as error:  # noqa: BLE001 - libraries fail in any way, and the next order may be better
            answer = OrderFailed(f"{type(error).__name__}: {error}")
        _send(answers, answer)


def _load_model(load: Callable[[], Model]) -> Model:
    """The model; why there is none is told to the operator alone, for it names folders."""
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
    # Nobody listens any more; the main thread may be deep in arithmetic.
    os._exit(0)


def _send(answers: BinaryIO, message: FromProcess) -> None:
    answers.write(frame(message))
    answers.flush()
