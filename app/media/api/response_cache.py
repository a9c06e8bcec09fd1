"""Responses that can no longer change, those for completed media, cached in this process."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from starlette.requests import Request

MAX_RESPONSES: Final = 4_000
"""About 1.5 kB each."""


@dataclass(frozen=True, slots=True)
class CachedResponse:
    """A JSON body and its ETag."""

    body: bytes
    etag: str


class ResponseCache:
    """Responses by kind, owner and id; the oldest are dropped first."""

    def __init__(self) -> None:
        self._responses: OrderedDict[tuple[str, UUID, UUID], CachedResponse] = OrderedDict()

    def get(self, kind: str, owner_id: UUID, key: UUID) -> CachedResponse | None:
        """The response stored for this key; None: there is none."""
        return self._responses.get((kind, owner_id, key))

    def put(self, kind: str, owner_id: UUID, key: UUID, response: CachedResponse) -> None:
        """Store a response; only one that can no longer change."""
        self._responses[kind, owner_id, key] = response
        if len(self._responses) > MAX_RESPONSES:
            self._responses.popitem(last=False)


def is_known(request: Request, etag: str) -> bool:
    """Whether the client says, by If-None-Match, that it has what this ETag stands for."""
    known = request.headers.get("if-none-match", "")
    return known.strip() == "*" or etag in known
