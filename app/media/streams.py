"""The streams of a queue in SQL: one owner's media of one provider and rank, oldest first. Nothing is written here."""

from typing import Final

from app.media.sql import PAUSED
from app.media.states import RESUMED, MediaStatus

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments

MOST_STREAMS: Final = 1000
"""Heads that one look along a queue sees."""
_HEAD: Final = f"""SELECT m.owner_id, m.provider, m.rank, m.next_run
    FROM media m WHERE m.status = '{MediaStatus.IN_QUEUE}' AND m.queue = $1 AND NOT ({PAUSED})"""
_BY_STREAM: Final = "ORDER BY m.owner_id, m.provider, m.rank, m.next_run, m.id LIMIT 1"
SAME_STREAM: Final = "m.owner_id = c.owner_id AND m.provider = c.provider AND m.rank = c.rank"
"""Whether the media `m` is of the stream `c`."""


def streams(first: str) -> str:
    """The CTE `stream`, for WITH RECURSIVE: the head of each stream of the queue $1, from where `first` says."""
    return f"""stream AS (
    ({_HEAD.replace("m.next_run", "m.next_run, 1 AS number", 1)} {first} {_BY_STREAM})
    UNION ALL
    SELECT head.*, s.number + 1 FROM stream s CROSS JOIN LATERAL (
        {_HEAD} AND (m.owner_id, m.provider, m.rank) > (s.owner_id, s.provider, s.rank) {_BY_STREAM}
    ) head WHERE s.number < {MOST_STREAMS}
)"""


LINE: Final = f"""
WITH RECURSIVE {streams("")}
SELECT c.owner_id, c.provider, c.rank, (SELECT count(*) FROM (
    SELECT FROM media m WHERE m.status = '{MediaStatus.IN_QUEUE}' AND m.queue = $1 AND {SAME_STREAM}
        AND m.next_run <= now() LIMIT $2
) due) AS waiting
FROM stream c WHERE c.next_run <= now() AND c.rank BETWEEN 0 AND {RESUMED}"""
"""Who waits in the queue $1: how many are due in each stream, up to $2."""
