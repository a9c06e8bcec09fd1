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
    FromProcess,
    Made,
    Order,
    Stopped,
    Told,
    Wrong,
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
            UnfitError: It must not be seen.
        """
        ...


class UnfitError(Exception):
    """The model's checker says that its result must not be seen; the message is for the media's owner."""


class _GivenUpError(Exception):
    """Nobody wants the file any more."""


class _NotLoadedError(Exception):
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
    Thread(target=_listen, args=(orders, stop), daemon=True).start()
    model: Model | None = None

    def tell(share: float) -> None:
        if stop.is_set():
            raise _GivenUpError
        _say(answers, Told(share))

    while True:
        order = orders.get()
        try:
            model = model or _loaded(load)
            tell(0.05)
            answer: FromProcess = Made(model.make(order, tell))
        except _GivenUpError:
            answer = Stopped()
        except _NotLoadedError as error:
            answer = Wrong(str(error))
        except UnfitError as error:
            answer = Wrong(str(error), content=True)
        except Exception as error:  # noqa: BLE001 - libraries fail in any way, and the next order may be better
            answer = Wrong(f"{type(error).__name__}: {error}")
        _say(answers, answer)


def _loaded(load: Callable[[], Model]) -> Model:
    """The model; why there is none is told to the operator alone, for it names folders."""
    try:
        return load()
    except Exception as error:
        traceback.print_exc()
        raise _NotLoadedError(f"the model cannot be loaded ({type(error).__name__}): see the worker's log") from error


def _listen(orders: "SimpleQueue[Order]", stop: Event) -> None:
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


def _say(answers: BinaryIO, message: FromProcess) -> None:
    answers.write(frame(message))
    answers.flush()
