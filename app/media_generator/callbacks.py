"""Callbacks sent by providers. A callback is only a wake-up signal: the state of a purchase is always polled."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

TOLERANCE: Final = timedelta(minutes=5)
"""Largest accepted difference between a signature's timestamp and our clock, in either direction."""


@dataclass(frozen=True, slots=True)
class Callback:
    """A request that a provider sent to the callback URL of one attempt."""

    attempt_id: UUID
    """From the URL, which only the provider received."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    received_at: datetime
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    """The query that the adapter appended to `Submission.callback_url`."""


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file that a provider sends before the answer that names it."""

    attempt_id: UUID
    """As the provider states it."""
    key: str
    """From the URL: whoever has it may send files."""
    name: str
    """The file name that the provider uses."""
    chunks: AsyncIterator[bytes]


class CallbackRefusedError(Exception):
    """It does not come from the provider, or is too old; the message is for the operator's log."""
