"""What the media endpoints find in the application's state; put there when it starts."""

from dataclasses import dataclass, field

from starlette.requests import Request

from app.jobs.callbacks.receiver import CallbackReceiver
from app.media.api.response_cache import FinishedResponses
from app.media.context import MediaServices
from app.media.events.batched_reads import BatchedReads
from app.media.events.subscriptions import Subscriptions


@dataclass(frozen=True, slots=True)
class MediaDependencies:
    """Everything an endpoint needs."""

    services: MediaServices
    public_url: str
    subscriptions: Subscriptions
    reads: BatchedReads
    callbacks: CallbackReceiver
    largest_file: int
    """Bytes of a provider's file."""
    responses: FinishedResponses = field(default_factory=FinishedResponses)


def media_dependencies(request: Request) -> MediaDependencies:
    """The desk of this application."""
    desk: MediaDependencies = request.app.state.desk
    return desk
