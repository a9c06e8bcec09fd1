"""Outputs are signed with the operator's certificate on their way into the store, if there is one: a C2PA manifest.

Signing needs the whole file, so it is on disk meanwhile, twice. A file that cannot be signed, or is too large for it,
passes as it is.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from tempfile import TemporaryFile
from typing import IO, Final

import structlog

from app.core.config import Settings
from app.core.errors import SettingsError
from app.provenance.manifests import AVAILABLE, LARGEST, SIGNED_TYPES, Credentials, ManifestError, sign
from app.provenance.mark import Mark

log = structlog.get_logger(__name__)

AT_ONCE: Final = 2
"""Files that one worker process signs at the same time."""
_CHUNK: Final = 256 * 1024


class OutputSigner:
    """Signs outputs; one object for all jobs of a process."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        # Threads wait for the processes, because not every event loop can start any.
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="sign")

    async def sign(self, source: IO[bytes], target: IO[bytes], media_type: str, mark: Mark) -> None:
        """Write a file with a manifest.

        Raises:
            ManifestError: It could not be signed.
        """
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, sign, source, target, media_type, mark, self._credentials)


def signer_of(settings: Settings) -> OutputSigner | None:
    """What signs outputs; None: the operator has set no certificate.

    Raises:
        SettingsError: The extra is missing, or a file cannot be read.
    """
    certificate, key = settings.c2pa_certificate, settings.c2pa_key
    if certificate is None or key is None:
        return None
    if not AVAILABLE:
        raise SettingsError("C2PA_CERTIFICATE needs the extra `c2pa`: pip install 'fleek[c2pa]'")
    for name, path in (("C2PA_CERTIFICATE", certificate), ("C2PA_KEY", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise SettingsError(f"{name}: {path} cannot be read: {error.strerror or error}") from None
    return OutputSigner(Credentials(certificate, key, settings.c2pa_algorithm, settings.c2pa_timestamp_url))


class SignedOutput:
    """One output on its way."""

    def __init__(self, signer: OutputSigner, media_type: str, mark: Mark, may_sign: Callable[[], bool]) -> None:
        """See `SignedOutput`.

        Args:
            signer: What signs it.
            media_type: Of the file.
            mark: What is said in the manifest.
            may_sign: Whether it may be changed; asked once all of it has come.
        """
        self._signer = signer
        self._type = media_type
        self._mark = mark
        self._may_sign = may_sign
        self.is_signed = False
        self.problem = ""
        """Why it was not signed, although it should have been."""

    async def chunks(self, source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same file with its manifest, or as it came."""
        if self._type not in SIGNED_TYPES:
            async for chunk in source:
                yield chunk
            return
        with TemporaryFile(prefix="fleek-sign-") as file, TemporaryFile(prefix="fleek-sign-") as target:
            size = 0
            async for chunk in source:
                await asyncio.to_thread(file.write, chunk)
                size += len(chunk)
                if size > LARGEST:
                    self.problem = f"it has more than {LARGEST} bytes"
                    break
            signed = not self.problem and self._may_sign() and await self._sign(file, target)
            async for chunk in _read(target if signed else file):
                yield chunk
        async for chunk in source:
            yield chunk

    async def _sign(self, file: IO[bytes], target: IO[bytes]) -> bool:
        try:
            await self._signer.sign(file, target, self._type, self._mark)
        except ManifestError as error:
            self.problem = str(error)
            log.warning("output_not_signed", media_id=str(self._mark.media_id), error=self.problem)
            return False
        self.is_signed = True
        return True


async def _read(file: IO[bytes]) -> AsyncIterator[bytes]:
    await asyncio.to_thread(file.seek, 0)
    while chunk := await asyncio.to_thread(file.read, _CHUNK):
        yield chunk
