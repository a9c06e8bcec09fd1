"""Compares a download with the hashes that its headers promise."""

import binascii
import hashlib
import re
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Final

from app.media_generator.errors import SuspectOutputError, UnconfirmedOutputError

_ALGORITHMS: Final[Mapping[str, str]] = {"md5": "md5", "sha": "sha1", "sha-256": "sha256", "sha-512": "sha512"}
"""As headers name them, and as hashlib does."""
_PAIR: Final = re.compile(r"(?<![\w-])([\w-]++)=:?([A-Za-z0-9+/_-]+={0,2}):?")
_MD5_ETAG: Final = re.compile(r'"([0-9a-f]{32})"')
_ETAG_IS_NO_MD5: Final = ("aws:kms", "aws:kms:dsse")


class PromisedHashes:
    """The hashes of one answer: of RFC 9530 (Content-Digest, Repr-Digest), its predecessors, Google and S3."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._promised = _certain(headers)
        self._tag = None if self._promised else _s3_md5(headers)
        wanted = {name for name, _ in self._promised}
        if self._tag is not None:
            wanted.add("md5")
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in wanted}

    async def fed(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The chunks, each processed as it passes by."""
        async for chunk in chunks:
            self.feed(chunk)
            yield chunk

    def feed(self, chunk: bytes) -> None:
        """Process the next chunk."""
        for one in self._hashes.values():
            one.update(chunk)

    @property
    def proves(self) -> bool:
        """Whether there is a hash to compare with."""
        return bool(self._hashes)

    def check(self, provider: str) -> None:
        """After the last chunk.

        Raises:
            SuspectOutputError: It is not what was promised.
            UnconfirmedOutputError: Its ETag differs, which is usually a hash.
        """
        for name, digest in self._promised:
            if self._hashes[name].digest() != digest:
                raise SuspectOutputError(f"the result of {provider} was damaged on its way: its {name} differs")
        if self._tag is not None and self._hashes["md5"].digest() != self._tag:
            raise UnconfirmedOutputError(f"the result of {provider} may have been damaged on its way: its ETag differs")


def _certain(headers: Mapping[str, str]) -> list[tuple[str, bytes]]:
    """Algorithm and hash of what headers promise for certain; what cannot be read promises nothing."""
    pairs = [("md5", value) for value in _all(headers, "Content-MD5")]
    for name in ("Content-Digest", "Repr-Digest", "Digest"):
        pairs += [pair for value in _all(headers, name) for pair in _PAIR.findall(value)]
    if headers.get("x-goog-stored-content-encoding", "identity") == "identity":
        pairs += [pair for value in _all(headers, "x-goog-hash") for pair in _PAIR.findall(value)]
    found = list[tuple[str, bytes]]()
    for name, text in pairs:
        algorithm = _ALGORITHMS.get(name.lower())
        digest = _decoded(text)
        # A hash of the wrong length is written differently than we think.
        if algorithm is not None and len(digest) == hashlib.new(algorithm, usedforsecurity=False).digest_size:
            found.append((algorithm, digest))
    return found


def _s3_md5(headers: Mapping[str, str]) -> bytes | None:
    """The ETag of S3, where it is the MD5: written in one part, and not encrypted with a key of a customer or KMS."""
    if "x-amz-request-id" not in headers or "x-amz-server-side-encryption-customer-algorithm" in headers:
        return None
    if headers.get("x-amz-server-side-encryption", "") in _ETAG_IS_NO_MD5:
        return None
    found = _MD5_ETAG.fullmatch(headers.get("ETag", ""))
    return None if found is None else bytes.fromhex(found[1])


def _all(headers: Mapping[str, str], name: str) -> Iterable[str]:
    """All values of a header that may be repeated."""
    getall: Callable[..., Any] | None = getattr(headers, "getall", None)
    if getall is not None:
        return list(getall(name, ()))
    return [headers[name]] if name in headers else []


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
