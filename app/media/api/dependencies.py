"""What the media endpoints find in the application's state; put there when it starts."""

from dataclasses import dataclass, field

from starlette.requests import Request

from app.jobs.callbacks.receiver import Callbacks
from app.media.api.response_cache import Finished
from app.media.context import MediaServices
from app.media.events.batched_reads import Feed
from app.media.events.subscriptions import Watch


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything an endpoint needs."""

    services: MediaServices
    public_url: str
    watch: Watch
    feed: Feed
    callbacks: Callbacks
    largest_file: int
    """Bytes of a provider's file."""
    finished: Finished = field(default_factory=Finished)


def desk_of(request: Request) -> Desk:
    """The desk of this application."""
    desk: Desk = request.app.state.desk
    return desk
