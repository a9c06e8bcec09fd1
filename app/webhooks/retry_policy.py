"""What an answer of a receiver means, and when the next try follows."""

import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from app.core.http_client.protocol import Answer

SHORTEST_PAUSE: Final = timedelta(seconds=5)
LONGEST_PAUSE: Final = timedelta(hours=4)
_SECONDS: Final = re.compile(r"[0-9]{1,9}")
LONGEST_QUIET: Final = timedelta(hours=24)
"""The longest Retry-After that is obeyed."""


def fault(answer: Answer) -> str | None:
    """Why an answer is no success; None: it is one."""
    if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    if HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST:
        return f"answered {answer.status}: redirects are not followed; give the final address"
    return f"answered {answer.status}"


def quiet(answer: Answer) -> timedelta | None:
    """Retry-After (RFC 9110, section 10.2.3), as seconds or as a date."""
    given = _header(answer.headers, "retry-after")
    if given is None:
        return None
    if _SECONDS.fullmatch(given.strip()):
        return min(timedelta(seconds=int(given)), LONGEST_QUIET)
    try:
        until = parsedate_to_datetime(given)
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        return min(max(until - datetime.now(UTC), timedelta(0)), LONGEST_QUIET)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _header(given: Mapping[str, str], name: str) -> str | None:
    return next((value for key, value in given.items() if key.lower() == name), None)


def pause(tried_for: timedelta) -> timedelta:
    """As long again as it has been tried already, so pauses double; give or take a quarter."""
    longest = min(max(tried_for, SHORTEST_PAUSE), LONGEST_PAUSE)
    return longest * random.uniform(0.75, 1.25)  # noqa: S311 - it spreads load and keeps nothing secret
