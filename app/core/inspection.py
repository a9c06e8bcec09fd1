"""What bytes are: type and size are read from the bytes themselves, never from a header or a name."""

from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import filetype  # pyright: ignore[reportMissingTypeStubs] - it has none
import imagesize  # pyright: ignore[reportMissingTypeStubs] - likewise

HEAD_BYTES: Final = 64 * 1024
"""So much of the beginning tells what it is."""
TAIL_BYTES: Final = 12
"""So much of the end tells whether all of it came."""

_ENDS: Final = {"image/png": b"IEND\xaeB`\x82", "image/jpeg": b"\xff\xd9", "image/gif": b";"}


class NotMediaError(Exception):
    """The bytes are no picture, video or sound that we take."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is."""

    media_type: str
    extension: str
    """Without the dot."""
    width: int | None = None
    """In pixels; None: not a picture."""
    height: int | None = None


def inspect(head: bytes) -> Kind:
    """Tell what a file is from its first HEAD_BYTES.

    Raises:
        NotMediaError: It is nothing that we take, or a picture without a readable size.
    """
    guess: Any = filetype.guess(head)  # pyright: ignore[reportUnknownMemberType] - untyped
    if guess is None or guess.mime.partition("/")[0] not in {"image", "video", "audio"}:
        raise NotMediaError(f"the bytes are no picture, video or sound: they begin with {head[:8]!r}")
    if not guess.mime.startswith("image/"):
        return Kind(guess.mime, guess.extension)
    size: tuple[int, int] = imagesize.get(BytesIO(head))  # pyright: ignore[reportUnknownMemberType] - untyped
    if min(size) < 1:
        raise NotMediaError(f"the {guess.mime} has no readable size")
    return Kind(guess.mime, guess.extension, *size)


def is_whole(kind: Kind, head: bytes, tail: bytes, size: int) -> bool:
    """Whether a file ends where its format says it does.

    Args:
        kind: As inspected.
        head: Its beginning.
        tail: Its last TAIL_BYTES.
        size: Its length in bytes.
    """
    if kind.media_type == "image/webp":
        return size >= int.from_bytes(head[4:8], "little") + 8
    return tail.rstrip(b"\x00").endswith(_ENDS.get(kind.media_type, b""))
