"""On whose behalf a request is made. There are no API keys yet: every request acts for the owner `default`."""

from typing import Final
from uuid import UUID

DEFAULT_OWNER_ID: Final = UUID("00000000-0000-7000-8000-000000000001")
"""The id of the owner `default`, which the first migration creates."""
