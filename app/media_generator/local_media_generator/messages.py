"""Messages between a worker and its compute process: frames of a length and a message.

A process receives only orders and cancel requests; when its input is closed, it ends.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from app.media_generator.model_card import Json

LENGTH_BYTES: Final = 4


class Order(msgspec.Struct, tag="order"):
    """Generate one file. One order at a time; the next is sent when this one is answered."""

    prompt: str
    input: Mapping[str, Json]
    picture: bytes | None = None
    """The file that `input.image` refers to."""


class Stop(msgspec.Struct, tag="stop"):
    """Cancel the current order; it is answered all the same."""


class Progress(msgspec.Struct, tag="progress"):
    """Progress of the current order."""

    share: float
    """0 to 1."""


class Completed(msgspec.Struct, tag="completed"):
    """The file; ends the order."""

    file: bytes


class Aborted(msgspec.Struct, tag="aborted"):
    """Canceled as requested; ends the order."""


class OrderFailed(msgspec.Struct, tag="failed"):
    """The order failed; ends the order."""

    message: str
    content: bool = False
    """Whether the model's safety checker rejected the result."""


ToProcess = Order | Stop
FromProcess = Progress | Completed | Aborted | OrderFailed
READ_TO: Final = msgspec.msgpack.Decoder(ToProcess)
READ_FROM: Final = msgspec.msgpack.Decoder(FromProcess)


def frame(message: ToProcess | FromProcess) -> bytes:
    """A message with its length, as sent."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body
