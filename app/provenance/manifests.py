"""C2PA manifests: verified, and signed with the operator's certificate; with the extra `c2pa`, each in a process.

The words are "valid" (what it says was signed, and the file is the one that was signed), "trusted" (its certificate
leads to one of the operator's trust list) and, of our own, "signed", which says nothing of trust.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import BoundedSemaphore
from typing import IO, Any, Final

import msgspec

from app.provenance.mark import Mark

AVAILABLE: Final = find_spec("c2pa") is not None
LARGEST: Final = 256 * 1024 * 1024
"""Bytes of a file that is verified or signed: the library holds the data of a video in memory, once."""
SIGNED_TYPES: Final = {
    "image/png": "image/png",
    "image/apng": "image/png",
    "image/jpeg": "image/jpeg",
    "image/webp": "image/webp",
    "image/gif": "image/gif",
    "image/tiff": "image/tiff",
    "image/avif": "image/avif",
    "image/heic": "image/heic",
    "video/mp4": "video/mp4",
    "video/quicktime": "video/quicktime",
    "video/x-m4v": "video/mp4",
    "audio/mp4": "audio/mp4",
    "audio/mpeg": "audio/mpeg",
    "audio/wav": "audio/wav",
}
"""Types that can hold a manifest, and their names in the library. Not FLAC: it would begin with an ID3 tag."""
_PROGRAM: Final = Path(__file__).with_name("manifest_process.py")
_LONGEST: Final = 120.0
"""Seconds for a process."""
_VERIFYING: Final = BoundedSemaphore(1)
"""One at a time: each takes as much memory as its file has bytes."""


class ManifestError(Exception):
    """The process failed; the message says why."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the manifest of a file is worth."""

    present: bool
    valid: bool | None = None
    """Whether its signature is one, and the file is the one that was signed; None: not verified, `problem` says why."""
    issuer: str | None = None
    """Who its certificate says has signed; anybody can make one that says so, unless it is trusted."""
    signed_at: str | None = None
    """What a time-stamp authority says; None: none was asked."""
    trusted: bool | None = None
    """Whether its certificate leads to one of the trust list; None: there is no list."""
    source_types: tuple[str, ...] = ()
    """All values of `digitalSourceType` in its actions."""
    problem: str | None = None
    """What does not hold, or why it was not verified."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the operator signs with."""

    certificate: Path
    """PEM: the certificate, then its issuers."""
    key: Path
    """PEM."""
    algorithm: str
    timestamp_url: str | None = None
    """A time-stamp authority; None: none is asked."""


def verify(file: IO[bytes], trust_list: Path | None) -> Verdict:
    """What the manifest of an opened file is worth. Blocking; where it cannot be verified, the verdict says why."""
    if not AVAILABLE:
        return Verdict(present=True, problem="not verified: the extra `c2pa` is not installed")
    if file.seek(0, 2) > LARGEST:
        return Verdict(present=True, problem=f"not verified: it has more than {LARGEST} bytes")
    request = {"trust_list": None if trust_list is None else str(trust_list.absolute())}
    with _VERIFYING:
        try:
            return msgspec.json.decode(_run(file, request), type=Verdict)
        except ManifestError as error:
            return Verdict(present=True, problem=f"not verified: {error}")


def sign(source: IO[bytes], target: IO[bytes], media_type: str, mark: Mark, credentials: Credentials) -> None:
    """Write an opened file with a manifest that says what the mark says. Blocking.

    Raises:
        ManifestError: It could not be signed.
    """
    # The process writes by another description of the file than Python's, which must have nothing left to write.
    target.flush()
    request = {
        "target": target.fileno(),
        "media_type": SIGNED_TYPES[media_type],
        "certificate": str(credentials.certificate.absolute()),
        "key": str(credentials.key.absolute()),
        "algorithm": credentials.algorithm,
        "timestamp_url": credentials.timestamp_url,
        "manifest": manifest_of(mark),
    }
    _run(source, request, (target.fileno(),))


def manifest_of(mark: Mark) -> dict[str, Any]:
    """What is signed: that it was created, from which kind of source, and by which model."""
    tool, _, version = mark.written.tool.partition(" ")
    action = {
        "action": "c2pa.created",
        "digitalSourceType": mark.source_type.uri,
        "softwareAgent": {"name": mark.written.model},
        "parameters": {"dev.fleek.media_id": str(mark.media_id)},
    }
    return {
        "claim_generator_info": [{"name": tool, "version": version or "0"}],
        "assertions": [{"label": "c2pa.actions", "data": {"actions": [action]}}],
    }


def _run(file: IO[bytes], request: dict[str, Any], passed: Sequence[int] = ()) -> bytes:
    file.flush()
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-I", str(_PROGRAM), msgspec.json.encode(request).decode()],
            env={},
            cwd="/",
            stdin=file,
            pass_fds=passed,
            capture_output=True,
            timeout=_LONGEST,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ManifestError(f"it took more than {_LONGEST:.0f} seconds") from None
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ManifestError(last[:300] or f"the process ended with {done.returncode}")
    return done.stdout
