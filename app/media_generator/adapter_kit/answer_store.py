"""Answers of providers that answer with the result itself: kept whole before anybody reads them, found after a crash.

1. The answer streams into the vault as it comes, under the attempt's id. One that breaks off is not kept.
2. The reference names it; the engine commits the reference.
3. A crash in between loses neither: what lies under the attempt's id is its purchase.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import contextmanager
from uuid import UUID

from app.media_generator.accounts import RawAnswers
from app.media_generator.errors import AnswerLostError, NotReachedError, OutputError


class AnswerTooLongError(AnswerLostError):
    """An answer has more bytes than are kept of one."""


class AnswerStore:
    """Those of one account, each a JSON object."""

    def __init__(self, provider: str, vault: RawAnswers | None, *, most_bytes: int) -> None:
        """See `AnswerStore`.

        Args:
            provider: The account's name, for messages.
            vault: None in processes that work on no jobs.
            most_bytes: Of an answer.
        """
        self._provider = provider
        self._optional_vault = vault
        self._most_bytes = most_bytes

    async def keep(self, attempt_id: UUID, chunks: AsyncIterator[bytes]) -> str:
        """Store an answer; the name under which it lies. Errors of `chunks` come through as they are.

        Raises:
            AnswerLostError: It is not whole, or cannot be stored.
        """
        try:
            return await self._vault.keep(attempt_id, self._checked_complete(chunks))
        except OSError as error:
            said = f"{self._provider} has answered, and the answer could not be stored: {error}"
            raise AnswerLostError(said) from error

    async def keep_file(self, attempt_id: UUID, part: str, chunks: AsyncIterator[bytes]) -> str:
        """Store a file that came apart from its answer, whatever it is; the name under which it lies.

        Raises:
            AnswerLostError: It cannot be stored.
        """
        try:
            return await self._vault.keep(attempt_id, chunks, part)
        except OSError as error:
            raise AnswerLostError(f"a file of {self._provider} could not be stored: {error}") from error

    async def find(self, attempt_id: UUID) -> str | None:
        """The name of the answer that came for an attempt; None: none is here, which says nothing of the provider.

        Raises:
            NotReachedError: It cannot be said now.
        """
        with self._translated_errors():
            return await self._vault.find(attempt_id)

    async def read(self, name: str) -> AsyncGenerator[bytes]:
        """An answer, chunk by chunk.

        Raises:
            OutputError: It is not kept any more.
            NotReachedError: It cannot be had now.
        """
        with self._translated_errors():
            async for chunk in self._vault.open(name):
                yield chunk

    async def drop(self, name: str) -> None:
        """Nobody needs it any more.

        Raises:
            NotReachedError: It lies there still.
        """
        with self._translated_errors():
            await self._vault.drop(name)

    @property
    def _vault(self) -> RawAnswers:
        if self._optional_vault is None:
            raise RuntimeError(f"{self._provider} works on jobs only where answers can be kept")
        return self._optional_vault

    async def _checked_complete(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass it on; what is no whole object is lost, though the connection ended as it should."""
        size, end = 0, b""
        async for chunk in chunks:
            yield chunk
            size += len(chunk)
            end = chunk.rstrip()[-1:] or end
            if size > self._most_bytes:
                raise AnswerTooLongError(f"the answer of {self._provider} is longer than {self._most_bytes} bytes")
        if end != b"}":
            raise AnswerLostError(f"the answer of {self._provider} is cut off after {size} bytes")

    @contextmanager
    def _translated_errors(self) -> Generator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise OutputError(f"the answer of {self._provider} is not kept any more") from error
        except OSError as error:
            raise NotReachedError(f"the answer of {self._provider} cannot be reached now: {error}") from error
