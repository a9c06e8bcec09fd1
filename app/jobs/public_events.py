"""Under which public name each event of a media is told, to webhooks and to streams."""

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
"""Every event that moves a media; those that only note something are not told as events of their own."""
