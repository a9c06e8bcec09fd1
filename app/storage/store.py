"""The store of files. An object is written once under a key that we choose, and never changed."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol


class StoreError(Exception):
    """The store did not do what was requested.

    StoreError
    ├── StoreUnavailableError   it is unreachable or overloaded; the same call may succeed later
    └── ObjectNotFoundError     there is no object with that key
    """


class StoreUnavailableError(StoreError):
    """The store does not answer, or answers that it is unavailable."""


class ObjectNotFoundError(StoreError):
    """There is no object with that key."""


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """What a store says about an object without its bytes."""

    media_type: str
    bytes: int
    etag: str | None
    """With its quotes, as the store sends it with the bytes; None: the store has none."""
    modified: datetime
    """To the second; with a time zone."""


class Store(Protocol):
    """A private bucket; every implementation passes `StoreContract`."""

    async def put(self, key: str, chunks: AsyncIterator[bytes], media_type: str) -> None:
        """Write an object completely or not at all; an error raised by `chunks` leaves nothing behind.

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

    async def head(self, key: str) -> ObjectHead:
        """What is known of an object, without reading it.

        Raises:
            ObjectNotFoundError, StoreUnavailableError: There is none, or the store does not say.
        """
        ...

    async def delete(self, key: str) -> None:
        """Delete an object; a missing one is not an error."""
        ...

    def sign(self, key: str, lifetime: timedelta) -> str:
        """A URL on the public address, where anybody can read the object for `lifetime`."""
        ...

    async def prepare(self) -> None:
        """Create the bucket if it is missing."""
        ...

    async def check(self) -> None:
        """Check that the bucket can be reached.

        Raises:
            StoreError: It cannot; the message says why.
        """
        ...
