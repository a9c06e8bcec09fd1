"""The public name of each event of a media item, for webhooks and event streams."""

from types import MappingProxyType
from typing import Final

from app.jobs.states import MediaEvent
from app.webhooks.event_types import EventType

EVENT_TYPES: Final = MappingProxyType(
    {
        MediaEvent.REQUESTED: EventType.QUEUED,
        MediaEvent.RETURNED: EventType.QUEUED,
        MediaEvent.RETRY_ASKED: EventType.QUEUED,
        MediaEvent.REROUTED: EventType.QUEUED,
        MediaEvent.CLAIMED: EventType.STARTED,
        MediaEvent.RETRY_SCHEDULED: EventType.RETRY,
        MediaEvent.COMPLETED: EventType.COMPLETED,
        MediaEvent.FAILED: EventType.FAILED,
        MediaEvent.EXPIRED: EventType.FAILED,
        MediaEvent.GIVEN_UP: EventType.FAILED,
        MediaEvent.CANCELED: EventType.CANCELED,
    }
)
"""Every event that changes a status; those that are only recorded are not published."""
