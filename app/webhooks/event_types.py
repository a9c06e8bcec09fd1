"""What receivers and streams are told of: the public names of what happens to a media. Imports nothing of ours."""

from enum import StrEnum
from typing import Final


class EventType(StrEnum):
    """The `type` of a payload; the event name of a stream is the part after the dot."""

    QUEUED = "media.queued"  # it waits for a worker: requested, returned, rerouted, or asked for again
    STARTED = "media.started"  # a worker has it
    RETRY = "media.retry"  # a try failed without cost; the next one follows at `next_run`
    COMPLETED = "media.completed"  # every file is stored and checked
    FAILED = "media.failed"  # over without a result; `error` says why
    CANCELED = "media.canceled"  # its owner stopped it in time


FINAL_TYPES: Final = (EventType.COMPLETED, EventType.FAILED, EventType.CANCELED)
"""What a receiver is told of unless it asks for something else."""

TEST_TYPE: Final = "webhook.test"
"""The type of an event that an owner sends to try an endpoint."""
