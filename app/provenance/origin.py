"""What an opened file says of its origin: both hashes, the marks in it, and what its C2PA manifest is worth."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from app.provenance import manifests
from app.provenance.manifests import Verdict
from app.provenance.reading import Marks, marks_in
from app.provenance.removal import removed_from

_CHUNK: Final = 256 * 1024
_NO_MANIFEST: Final = Verdict(present=False)


@dataclass(frozen=True, slots=True)
class FileOrigin:
    """What a file says of its origin."""

    sha256: str
    """Of all its bytes, in hex."""
    source_sha256: str
    """The same without a mark of ours."""
    bytes: int
    marks: Marks
    manifest: Verdict


def origin_of(file: IO[bytes], trust_list: Path | None) -> FileOrigin:
    """What an opened file says of its origin. Blocking; bounded in memory, whatever the bytes are."""
    file.seek(0)
    whole, size = _hashed(iter(lambda: file.read(_CHUNK), b""))
    source, _ = _hashed(removed_from(file))
    marks = marks_in(file)
    verdict = manifests.verify(file, trust_list) if marks.c2pa else _NO_MANIFEST
    if marks.c2pa and not verdict.present:
        verdict = Verdict(present=True, valid=False, problem="there is none where a manifest should be")
    return FileOrigin(whole, source, size, marks, verdict)


def _hashed(chunks: Iterator[bytes]) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size
