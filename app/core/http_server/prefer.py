"""The header `Prefer: wait=N` of RFC 7240: how long a client is willing to wait for an answer."""

import re
from typing import Final

HEADER: Final = "Prefer"
APPLIED: Final = "Preference-Applied"
LONGEST_SECONDS: Final = 60
_WAIT: Final = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})\"?\s*(?=[,;]|$)", re.IGNORECASE)


def wanted_wait(header: str | None) -> int | None:
    """Seconds that the client wants to wait, 1 to LONGEST_SECONDS; None: it did not ask, or not understandably.

    A preference is no demand: what cannot be understood is ignored, and what is too long is cut.
    """
    found = _WAIT.search(header) if header else None
    if found is None:
        return None
    return min(max(int(found[1]), 1), LONGEST_SECONDS)


def applied(seconds: int) -> dict[str, str]:
    """The header that says so."""
    return {APPLIED: f"wait={seconds}"}
