"""What a file is, told from its first bytes: by libraries, and by our own readers where those are wrong."""

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final, TypeAlias

import filetype  # pyright: ignore[reportMissingTypeStubs] - it has none

from app.core.file_types import bmff, pictures, scenes, streams, text
from app.core.file_types.kind import HEAD_BYTES, NOTHING_KNOWN, Kind

_Reader: TypeAlias = Callable[[bytes], Kind | None]

_PROPER: Final = {"audio/x-wav": "audio/wav", "audio/x-flac": "audio/flac"}
_NOT_BELIEVED: Final = frozenset({"image/bmp", "image/x-icon", "audio/mpeg", "audio/aac", "video/mpeg", "audio/midi"})
"""Types that the library tells from too few bytes; our own readers have looked already."""
_STRONG: Final[tuple[_Reader, ...]] = (
    bmff.recognise,
    pictures.recognise,
    streams.recognise,
    scenes.recognise,
)
_WEAK: Final[tuple[_Reader, ...]] = (pictures.recognise_weakly, scenes.recognise_weakly)
_LONG_ENOUGH: Final = 6
"""Bytes of a signature that are no chance."""


def describe(head: bytes, texts: Collection[str] = ()) -> Kind:
    """What a file is; what nobody knows is `application/octet-stream`. Never raises.

    Args:
        head: Its beginning: HEAD_BYTES, or all of it if it is shorter.
        texts: The types that are expected, to tell JSON from plain text.
    """
    head = head[:HEAD_BYTES]
    kind = _recognised(head, texts)
    try:
        size = pictures.size_of(kind.media_type, head)
    except Exception:  # noqa: BLE001 - a mistake of ours must not decide about a file, either
        size = None
    return kind if size is None else Kind(kind.media_type, kind.extension, *size)


def _recognised(head: bytes, texts: Collection[str]) -> Kind:
    if not head:
        return NOTHING_KNOWN
    by_text: _Reader = partial(text.recognise, texts=texts)
    readers: tuple[_Reader, ...] = (*_STRONG, _by_filetype, by_text, *_WEAK, _by_puremagic)
    for recognise in readers:
        try:
            kind = recognise(head)
        except Exception:  # noqa: BLE001 - neither a library's mistake nor ours must decide about a file
            kind = None
        if kind is not None:
            return kind
    return NOTHING_KNOWN


def _by_filetype(head: bytes) -> Kind | None:
    guess: Any = filetype.guess(head)  # pyright: ignore[reportUnknownMemberType] - untyped
    if guess is None or guess.mime in _NOT_BELIEVED:
        return None
    media_type: str = guess.mime
    return Kind(_PROPER.get(media_type, media_type), guess.extension)


def _by_puremagic(head: bytes) -> Kind | None:
    """The library with the most signatures, many of them short: only the long ones are believed."""
    import puremagic  # noqa: PLC0415 - it takes 2.5 MiB, and is seldom needed

    # It raises an error if it knows nothing.
    found: Any = puremagic.magic_string(head)  # pyright: ignore[reportUnknownMemberType] - typed in part
    for match in found:
        if match.mime_type.count("/") == 1 and match.extension and len(match.byte_match) >= _LONG_ENOUGH:
            return Kind(match.mime_type, match.extension.removeprefix("."))
    return None
