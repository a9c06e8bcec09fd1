"""What the media endpoints use; created when the application starts."""

from dataclasses import dataclass, field

from starlette.requests import Request

from app.core.http_server.client_limit import ClientLimit
from app.jobs.callbacks.receiver import CallbackReceiver
from app.media.api.response_cache import ResponseCache
from app.media.context import MediaServices
from app.media.events.batched_reads import BatchedReads
from app.media.events.subscriptions import Subscriptions
from app.media.provenance import ProvenanceCheck


@dataclass(frozen=True, slots=True)
class MediaDependencies:
    """Everything a media item endpoint needs."""

    services: MediaServices
    public_url: str
    subscriptions: Subscriptions
    reads: BatchedReads
    callbacks: CallbackReceiver
    max_output_bytes: int
    """The largest file a provider may upload, or a stranger may have checked."""
    provenance: ProvenanceCheck
    check_limit: ClientLimit
    """How often one client may have a file checked."""
    responses: ResponseCache = field(default_factory=ResponseCache)


def media_dependencies(request: Request) -> MediaDependencies:
    """Those of the application that serves the request."""
    dependencies: MediaDependencies = request.app.state.media
    return dependencies
