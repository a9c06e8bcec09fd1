"""The header `Prefer: wait=N` of RFC 7240: how long a client is willing to wait for a response."""

import re
from typing import Final

HEADER: Final = "Prefer"
APPLIED: Final = "Preference-Applied"
MAX_SECONDS: Final = 60
_WAIT: Final = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})\"?\s*(?=[,;]|$)", re.IGNORECASE)


def wanted_wait(header: str | None) -> int | None:
    """Seconds that the client wants to wait, 1 to MAX_SECONDS; None: no such preference, or an invalid one.

    A preference is not a demand: an invalid one is ignored, and a longer one is shortened.
    """
    found = _WAIT.search(header) if header else None
    if found is None:
        return None
    return min(max(int(found[1]), 1), MAX_SECONDS)


def applied(seconds: int) -> dict[str, str]:
    """The header that confirms the preference."""
    return {APPLIED: f"wait={seconds}"}
