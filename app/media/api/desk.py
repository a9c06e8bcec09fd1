"""What the media endpoints find in the application's state; put there when it starts."""

from dataclasses import dataclass, field

from starlette.requests import Request

from app.core.database import Database
from app.media.api.finished import Finished
from app.media.service import MediaServices


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything an endpoint needs."""

    services: MediaServices
    database: Database
    public_url: str
    finished: Finished = field(default_factory=Finished)


def desk_of(request: Request) -> Desk:
    """The desk of this application."""
    return request.app.state.desk
