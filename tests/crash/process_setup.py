"""What a process of the fleet is made different by before it begins: clock, output, a fault put back, a place to die.

The product knows nothing of it: its constants and functions are replaced from outside when the process starts.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pkgutil import resolve_name
from typing import Any, Final

from celery.signals import worker_ready

from tests.crash import mutations, points

WINDOWS: Final = (
    "app.media_generator.replicate_media_generator.provider:SKEW",
    "app.jobs.execution.executor:CALLBACK_WAITS",
    "app.jobs.execution.failures:FIRST_CHECK",
    "app.jobs.execution.late_results:PAUSE",
)
"""Constants in seconds or as timedeltas that are long for a campaign."""
STATEMENTS: Final = ("app.jobs.transitions.attempt:_PURCHASE",)
"""SQL in which intervals of minutes are."""
MINUTES: Final = re.compile(r"interval '(\d+) minutes'")
ADAPTERS: Final = (
    "app.media_generator.replicate_media_generator.provider:ReplicateMediaGeneratorModel",
    "app.media_generator.fal_media_generator.provider:FalMediaGeneratorModel",
)
"""Whose `submit_timeout` is."""


def arrange(environment: Mapping[str, str]) -> None:
    """Make this process what its environment says."""
    if (scale := environment.get("CRASH_TIME_SCALE")) is not None:
        scale_time(float(scale))
    if (name := environment.get("CRASH_MUTATION")) is not None:
        mutations.MUTATIONS[name].put_back()
    if (how := environment.get("CRASH_STDOUT")) is not None:
        # Not before Celery has printed its banner: without that it does not begin.
        worker_ready.connect(lambda **_: break_stdout(how), weak=False)
    points.arm(environment)


def scale_time(scale: float) -> None:
    """Shorten the windows of look-ups, all by the same factor, so that a campaign outlasts them as a real day does."""
    for name in WINDOWS:
        module, constant = name.split(":")
        owner = resolve_name(module)
        setattr(owner, constant, _scaled(getattr(owner, constant), scale))
    for name in STATEMENTS:
        module, constant = name.split(":")
        owner = resolve_name(module)
        shortened = MINUTES.sub(
            lambda found: f"interval '{int(found[1]) * 60 * scale} seconds'", getattr(owner, constant)
        )
        setattr(owner, constant, shortened)
    for name in ADAPTERS:
        adapter = resolve_name(name)
        limit = adapter.capabilities.submit_timeout
        adapter.capabilities = replace(adapter.capabilities, submit_timeout=limit * scale)


def _scaled(value: Any, scale: float) -> Any:
    if isinstance(value, tuple):
        return tuple(_scaled(one, scale) for one in value)
    assert isinstance(value, float | int | timedelta)
    return value * scale


def break_stdout(how: str) -> None:
    """Let whatever is printed or logged from here on fail.

    Args:
        how: `full_stdout`: there is no space; `closed_stdout`: nobody reads the pipe.
    """
    if how == "full_stdout":
        broken = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, broken = os.pipe()
        os.close(reader)
    for number in (1, 2):
        os.dup2(broken, number)
    os.close(broken)
