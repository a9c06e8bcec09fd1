"""Checks everything a process depends on: `python -m app.cli.checks.probe_all`, with the settings of its environment.

Prints one JSON object per line: an empty one when the checks begin, as starting takes long on a busy machine, then one
per check as soon as its result is known. A process of its own, because Celery reads its settings on import, and so that
it can be killed when it hangs.
"""

import asyncio
import dataclasses
import json
from typing import Final

from app.core.load_settings import load_settings
from app.core.telemetry.logging import set_up_logging
from app.runtime import open_runtime
from app.tools.checks import Check, check_all
from app.tools.round_trip import RoundTrip, WorkerSilentError, round_trip

HINT: Final = "start one: celery -A app.tasks.celery worker -l INFO"


async def probe_all() -> None:
    """Run all checks at the same time; without a broker, do not wait for a worker."""
    async with open_runtime(load_settings()) as runtime:
        trip = asyncio.create_task(round_trip(runtime))
        broker_answers = True
        for check in await check_all(runtime):
            _show(check)
            broker_answers = broker_answers and (check.ok or check.name != "broker")
        if broker_answers:
            _show(await _worker(trip))
        else:
            trip.cancel()
            _show(Check("worker", ok=False, detail="not checked, because the broker does not answer", hint=HINT))


async def _worker(trip: asyncio.Task[RoundTrip]) -> Check:
    try:
        answer = await trip
    except WorkerSilentError as error:
        return Check("worker", ok=False, detail=error.detail, hint=HINT)
    return Check("worker", ok=True, detail=f"answered within {answer.milliseconds} ms")


def _show(check: Check) -> None:
    print(json.dumps(dataclasses.asdict(check)), flush=True)


if __name__ == "__main__":
    set_up_logging(level="ERROR", json=True)
    print("{}", flush=True)
    asyncio.run(probe_all())
