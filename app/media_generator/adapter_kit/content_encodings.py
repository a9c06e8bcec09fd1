"""Decodes bodies that were compressed although nothing asked for it; without a bound on size one byte may be many."""

import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Final

from app.media_generator.errors import ProviderError, SuspectOutputError

MOST_BYTES: Final = 128 * 1024 * 1024
"""Largest size of JSON that came compressed."""
_COMPRESSED: Final = (b"\x1f\x8b\x08", b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")
"""The beginnings of gzip and zlib, with which no JSON begins."""
_PIECE_BYTES: Final = 256 * 1024
_ENCODINGS: Final = frozenset({"gzip", "x-gzip", "deflate"})
_AUTO: Final = 32 + zlib.MAX_WBITS
"""gzip or zlib, by the header."""


def is_encoded(headers: Mapping[str, str]) -> bool:
    """Whether headers say that a body is compressed in a way that can be undone here."""
    return headers.get("content-encoding", "").strip().lower() in _ENCODINGS


async def decoded_chunks(
    headers: Mapping[str, str], chunks: AsyncIterator[bytes], error: type[ProviderError] = SuspectOutputError
) -> AsyncIterator[bytes]:
    """The chunks of a body without its Content-Encoding; those of another encoding pass through.

    Args:
        headers: Of the answer.
        chunks: Its body.
        error: Raised where it is damaged, or cut off.
    """
    if not is_encoded(headers):
        async for chunk in chunks:
            yield chunk
        return
    decoder = _Decoder()
    try:
        async for chunk in chunks:
            for piece in decoder.feed(chunk):
                yield piece
    except zlib.error as fault:
        raise error(f"the compressed answer is damaged: {fault}") from fault
    if not decoder.is_complete:
        raise error("the compressed answer is cut off")


def decompressed(body: bytes | bytearray) -> bytes | bytearray:
    """JSON without its compression; as it is where there is none, or where it cannot be undone within MOST_BYTES."""
    if not body.startswith(_COMPRESSED):
        return body
    decoder, found = _Decoder(), bytearray()
    try:
        for piece in decoder.feed(bytes(body)):
            found += piece
            if len(found) > MOST_BYTES:
                return body
    except zlib.error:
        return body
    return bytes(found) if decoder.is_complete else body


class _Decoder:
    """gzip, zlib, or what some servers send as deflate: without a header."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(_AUTO)
        self._is_first = True
        self.is_complete = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The decoded bytes, in pieces of a bounded size."""
        while chunk and not self.is_complete:
            try:
                piece = self._inner.decompress(chunk, _PIECE_BYTES)
            except zlib.error:
                if not self._is_first:
                    raise
                self._inner = zlib.decompressobj(-zlib.MAX_WBITS)
                piece = self._inner.decompress(chunk, _PIECE_BYTES)
            self._is_first = False
            yield piece
            chunk = self._inner.unconsumed_tail
            self.is_complete = self._inner.eof
