"""What providers tell us of their own accord. A callback only rings: what became of a purchase is always asked for."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

TOLERANCE: Final = timedelta(minutes=5)
"""How far the time in a signature may be from ours, either way."""


@dataclass(frozen=True, slots=True)
class Callback:
    """A request that a provider has sent to the address of one attempt."""

    attempt_id: UUID
    """Out of the address, which nobody else was told."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    received_at: datetime
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the adapter has added to `Submission.callback_url` behind a question mark."""


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file that a provider sends before the answer that names it."""

    attempt_id: UUID
    """As the provider says."""
    key: str
    """Out of the address: whoever knows it may send files."""
    name: str
    """As the provider calls it."""
    chunks: AsyncIterator[bytes]


class CallbackRefusedError(Exception):
    """It does not come from the provider, or is too old; the message is for our log."""
