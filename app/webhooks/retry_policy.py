"""Whether a receiver's answer is a success, and when the next attempt follows."""

import random
import re
from collections.abc import Mapping
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from app.core import clock
from app.core.http_client.protocol import Answer

MIN_BACKOFF: Final = timedelta(seconds=5)
MAX_BACKOFF: Final = timedelta(hours=4)
MAX_RETRY_AFTER: Final = timedelta(hours=24)
"""The longest Retry-After that is obeyed."""
_SECONDS: Final = re.compile(r"[0-9]{1,9}")


def failure_reason(answer: Answer) -> str | None:
    """Why an answer is not a success; None: it is one."""
    if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    if HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST:
        return f"answered {answer.status}: redirects are not followed; register the final address"
    return f"answered {answer.status}"


def retry_after(answer: Answer) -> timedelta | None:
    """Retry-After (RFC 9110, section 10.2.3), given as seconds or as a date; None: missing or invalid."""
    given = _header(answer.headers, "retry-after")
    if given is None:
        return None
    if _SECONDS.fullmatch(given.strip()):
        return min(timedelta(seconds=int(given)), MAX_RETRY_AFTER)
    try:
        until = parsedate_to_datetime(given)
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        return min(max(until - clock.now(), timedelta(0)), MAX_RETRY_AFTER)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _header(given: Mapping[str, str], name: str) -> str | None:
    return next((value for key, value in given.items() if key.lower() == name), None)


def backoff(tried_for: timedelta) -> timedelta:
    """As long as the delivery has been tried already, so pauses double; plus or minus a quarter."""
    pause = min(max(tried_for, MIN_BACKOFF), MAX_BACKOFF)
    return pause * random.uniform(0.75, 1.25)  # noqa: S311 - it spreads load and keeps nothing secret
