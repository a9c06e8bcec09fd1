"""The public names of events, as webhooks and streams use them. Imports nothing of ours."""

from enum import StrEnum
from typing import Final


class EventType(StrEnum):
    """The `type` of a payload; the event name of a stream is the part after the dot."""

    QUEUED = "media.queued"  # it waits for a worker: requested, returned, rerouted, or retried by its owner
    STARTED = "media.started"  # a worker has it
    RETRY = "media.retry"  # an attempt failed without cost; the next one follows at `next_run`
    COMPLETED = "media.completed"  # every file is stored and checked
    FAILED = "media.failed"  # finished without a result; `error` says why
    CANCELED = "media.canceled"  # canceled by its owner in time


FINAL_TYPES: Final = (EventType.COMPLETED, EventType.FAILED, EventType.CANCELED)
"""What an endpoint receives unless it names other events."""

TEST_TYPE: Final = "webhook.test"
"""The type of the event that an owner sends to test an endpoint."""
