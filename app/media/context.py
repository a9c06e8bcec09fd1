"""What the use cases of media need."""

from dataclasses import dataclass
from datetime import timedelta

from app.core.bell import Bell
from app.core.database.pool import DatabasePool
from app.jobs.inputs.validation import InputValidator
from app.jobs.scheduling.availability import AvailabilityCache
from app.jobs.scheduling.queue_position import QueuePositions
from app.media_generator.accounts import RawAnswers
from app.media_generator.registry import Registry
from app.storage.signing import SignedUrls
from app.storage.store import Store
from app.uploads.service import Uploads
from app.webhooks.receivers import Receivers


@dataclass(frozen=True, slots=True)
class MediaServices:
    """Connections, caches and settings that the use cases share."""

    db: DatabasePool
    registry: Registry
    bell: Bell
    store: Store
    urls: SignedUrls
    queue_positions: QueuePositions
    availability: AvailabilityCache
    receivers: Receivers
    uploads: Uploads
    inputs: InputValidator
    answers: RawAnswers
    default_model: str
    key_lifetime: timedelta
    """How long an idempotency key is kept at least."""
