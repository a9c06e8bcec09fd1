"""Answers of providers whose answer is the result itself: stored complete before they are parsed, found after a crash.

1. The answer is streamed into the vault under the attempt's id. One that breaks off is not stored.
2. The reference names it; the engine commits the reference.
3. After a crash in between, the answer stored under the attempt's id is the purchase.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import aclosing, contextmanager
from typing import Final
from uuid import UUID

import structlog

from app.core.file_types import HEAD_BYTES, describe
from app.core.http_client.protocol import OutgoingError
from app.media_generator.accounts import RawAnswers
from app.media_generator.adapter_kit.file_places import BASE64_FILE
from app.media_generator.adapter_kit.id_reader import IdReader
from app.media_generator.errors import AnswerLostError, NotReachedError, OutputGoneError, UnreadableAnswerError

log = structlog.get_logger(__name__)

_AROUND: Final = b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n"
"""Byte order marks, NULs (of UTF-16, too) and blanks."""
_FILE: Final = re.compile(
    rb'"\s*+(?:data:[a-z]+/[^",]{0,100},|https?://[^"\s]{4}|' + BASE64_FILE.pattern.encode() + rb")", re.IGNORECASE
)
"""The beginning of a string that is a file or names one."""
_LONGEST_BEGINNING: Final = 512
_ENDS: Final = {b"{": b"}", b"[": b"]"}


class FileFinder:
    """Whether a file begins in what passes by: as bytes, as base64 or a data URI in a string, or at an address."""

    def __init__(self) -> None:
        self.found = False
        self._last: bytes | None = None

    def feed(self, chunk: bytes) -> None:
        """Process the next chunk."""
        if self.found:
            return
        if self._last is None:
            self.found = describe(chunk[:HEAD_BYTES]).is_media
        text = (self._last or b"") + chunk
        self.found = self.found or _FILE.search(text.replace(b"\x00", b"").replace(b"\\/", b"/")) is not None
        self._last = text[-_LONGEST_BEGINNING:]


class AnswerTooLongError(AnswerLostError):
    """An answer is larger than the limit."""


class AnswerStore:
    """Answers of one account, each in JSON; plug-ins import it as `KeptAnswers`."""

    def __init__(self, provider: str, vault: RawAnswers | None, *, most_bytes: int) -> None:
        """See `AnswerStore`.

        Args:
            provider: The account's name, for messages.
            vault: None in processes that execute no jobs.
            most_bytes: Largest size of an answer.
        """
        self._provider = provider
        self._optional_vault = vault
        self._most_bytes = most_bytes

    async def keep(
        self, attempt_id: UUID, chunks: AsyncIterator[bytes], *, external_id: str | None = None, lenient: bool = False
    ) -> str:
        """Store an answer and return its name. Errors raised by `chunks` pass through unchanged.

        Args:
            attempt_id: Whose answer it is.
            chunks: The answer.
            external_id: The `id` that it must have, unless it has none; None: any.
            lenient: Whatever holds a file is stored, also if it is no JSON, is cut off, or breaks off after a file.

        Raises:
            AnswerLostError: It is incomplete, about another purchase, or cannot be stored.
        """
        try:
            return await self._vault.keep(attempt_id, self._checked_complete(chunks, external_id, lenient=lenient))
        except OSError as error:
            message = f"{self._provider} answered, but the answer could not be stored: {error}"
            raise AnswerLostError(message) from error

    async def keep_file(self, attempt_id: UUID, part: str, chunks: AsyncIterator[bytes]) -> str:
        """Store a file that was sent separately from its answer, unchecked, and return its name.

        Raises:
            AnswerLostError: It cannot be stored.
        """
        try:
            return await self._vault.keep(attempt_id, chunks, part)
        except OSError as error:
            raise AnswerLostError(f"a file of {self._provider} could not be stored: {error}") from error

    async def find(self, attempt_id: UUID) -> str | None:
        """The name of the answer stored for an attempt; None: none is stored, although the provider may have sent one.

        Raises:
            NotReachedError: The store cannot be read at the moment.
        """
        with self._translated_errors():
            return await self._vault.find(attempt_id)

    async def read(self, name: str) -> AsyncGenerator[bytes]:
        """An answer, chunk by chunk.

        Raises:
            OutputGoneError: It is no longer stored.
            NotReachedError: The store cannot be read at the moment.
        """
        with self._translated_errors():
            async for chunk in self._vault.open(name):
                yield chunk

    async def is_media(self, name: str) -> bool:
        """Whether an answer is a picture, video or sound itself, and no JSON."""
        head = b""
        async with aclosing(self.read(name)) as chunks:
            async for chunk in chunks:
                head += chunk
                if len(head) >= HEAD_BYTES:
                    break
        return describe(head[:HEAD_BYTES]).is_media

    async def drop(self, name: str) -> None:
        """Delete an answer.

        Raises:
            NotReachedError: It was not deleted.
        """
        with self._translated_errors():
            await self._vault.drop(name)

    @property
    def _vault(self) -> RawAnswers:
        if self._optional_vault is None:
            raise RuntimeError(f"{self._provider} can execute jobs only in a process with a vault")
        return self._optional_vault

    async def _checked_complete(
        self, chunks: AsyncIterator[bytes], external_id: str | None, *, lenient: bool
    ) -> AsyncIterator[bytes]:
        """The chunks, checked: incomplete JSON is an error even if the connection ended normally.

        A picture, video or sound in place of JSON is the result itself.
        """
        size, head, start, end, reader, finder = 0, b"", b"", b"", IdReader(), FileFinder()
        try:
            async for chunk in chunks:
                yield chunk
                reader.feed(chunk)
                finder.feed(chunk)
                head += chunk[: HEAD_BYTES - len(head)]
                size += len(chunk)
                start = start or chunk.lstrip(_AROUND)[:1]
                end = chunk.rstrip(_AROUND)[-1:] or end
                if size > self._most_bytes:
                    raise AnswerTooLongError(f"the answer of {self._provider} is longer than {self._most_bytes} bytes")
        except OutgoingError as error:
            # The rest of it will never come again.
            if not lenient or not finder.found:
                raise
            log.warning("answer_broken_off", provider=self._provider, bytes=size, error=str(error))
        if not (lenient and finder.found):
            self._check_is_json(head, start, end, size, is_complete=reader.is_complete)
        if None not in {external_id, reader.found} and reader.found != external_id:
            raise AnswerLostError(f"{self._provider} answered about another purchase, {reader.found!r}")

    def _check_is_json(self, head: bytes, start: bytes, end: bytes, size: int, *, is_complete: bool) -> None:
        if start not in _ENDS:
            if describe(head).is_media:
                return
            raise UnreadableAnswerError(f"{self._provider} answered with something that is no JSON")
        if end != _ENDS[start] and not is_complete:
            raise AnswerLostError(f"the answer of {self._provider} is cut off after {size} bytes")

    @contextmanager
    def _translated_errors(self) -> Generator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise OutputGoneError(f"the answer of {self._provider} is no longer stored") from error
        except OSError as error:
            raise NotReachedError(f"the answer of {self._provider} cannot be read at the moment: {error}") from error
