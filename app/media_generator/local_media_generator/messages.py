"""What a worker and the process that computes for it send to each other: frames of a length and a message.

Nothing is said to a process that is not an order or a wish to stop; when its input ends, it ends.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from app.media_generator.model_card import Json

LENGTH_BYTES: Final = 4


class Order(msgspec.Struct, tag="order"):
    """Make one file. One order at a time; the next is sent when this one is answered."""

    prompt: str
    input: Mapping[str, Json]
    picture: bytes | None = None
    """What `input.image` stands for."""


class Stop(msgspec.Struct, tag="stop"):
    """Give the order up that is worked on; it is answered all the same."""


class Progress(msgspec.Struct, tag="progress"):
    """So far is it."""

    share: float
    """0 to 1."""


class Completed(msgspec.Struct, tag="completed"):
    """The file; ends the order."""

    file: bytes


class Aborted(msgspec.Struct, tag="aborted"):
    """Given up as wished; ends the order."""


class OrderFailed(msgspec.Struct, tag="failed"):
    """It cannot be made; ends the order."""

    message: str
    content: bool = False
    """The model's own checker does not let it be seen."""


ToProcess = Order | Stop
FromProcess = Progress | Completed | Aborted | OrderFailed
READ_TO: Final = msgspec.msgpack.Decoder(ToProcess)
READ_FROM: Final = msgspec.msgpack.Decoder(FromProcess)


def frame(message: ToProcess | FromProcess) -> bytes:
    """A message as it is sent."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body
