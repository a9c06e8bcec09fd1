"""The store: where files lie. A file is written once under a key of ours and never changed."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Protocol


class StoreError(Exception):
    """The store did not do what was asked.

    StoreError
    ├── StoreUnavailableError   it does not answer; the same call may succeed later
    └── ObjectNotFoundError     there is no object of that key
    """


class StoreUnavailableError(StoreError):
    """The store does not answer, or answers that it cannot now."""


class ObjectNotFoundError(StoreError):
    """There is no object of that key."""


class Store(Protocol):
    """A private bucket; every implementation passes `StoreContract`."""

    async def put(self, key: str, chunks: AsyncIterator[bytes], media_type: str) -> None:
        """Write an object, whole or not at all; an error raised by `chunks` leaves nothing behind.

        Raises:
            StoreUnavailableError: It may or may not have been written; writing it again is safe.
        """
        ...

    def get(self, key: str) -> AsyncIterator[bytes]:
        """The bytes of an object, chunk by chunk.

        Raises:
            ObjectNotFoundError, StoreUnavailableError: On the first chunk.
        """
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; one that is not there is removed already."""
        ...

    def sign(self, key: str, lifetime: timedelta) -> str:
        """A URL at which anybody can read the object until `lifetime` is over, at the address that clients reach."""
        ...

    async def prepare(self) -> None:
        """Create the bucket where it is missing."""
        ...

    async def check(self) -> None:
        """Find out whether the bucket answers.

        Raises:
            StoreError: What is wrong with it.
        """
        ...
