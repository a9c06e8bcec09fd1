"""What keeps a worker's loops going whatever goes wrong."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

from app.media.writes import TRY_LATER

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


async def survives(work: Coroutine[Any, Any, Result]) -> Result | None:
    """Do it; no error of the database, or of ours, is a reason to end: then the answer is None."""
    try:
        return await work
    except TRY_LATER as error:
        log.warning("database_unavailable", error=type(error).__name__)
    except Exception:
        log.exception("runner_stumbled")
    await asyncio.sleep(0.2)
    return None
